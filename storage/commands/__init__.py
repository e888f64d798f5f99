"""The verbs of ``zoo store`` that bring zoos in and out: ``EXPORT_VERBS``, ``IMPORT_VERBS``, and shared ``options``."""
