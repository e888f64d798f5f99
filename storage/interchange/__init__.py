"""Formats that others defined, in and out of a published zoo.

Out: ``google.export_google``, ``sane.export_sane``, ``zip.zip_zoo``, ``hub_folder.prepare_hub``,
``raw.export_tree.export_raw``, ``npz.export_npz``, ``safetensors_files.export_safetensors``. In:
``raw.import_tree.import_raw``, ``google_import.import_google``, ``copy_zoo.import_zoo``.
"""
