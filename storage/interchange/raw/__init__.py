"""The reference's tree of Ray Tune trials: ``import_tree.import_raw`` and ``export_tree.export_raw``."""
