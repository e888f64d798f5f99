"""Trees of Ray Tune trials, as the reference writes them: ``import_tree.import_raw``, ``export_tree.export_raw``."""
