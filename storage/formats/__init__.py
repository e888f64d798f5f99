"""Formats of all that is stored, as bytes to and from values.

Manifests (``Manifest``), commit records (``PartRecord``), label columns, tables (``encode_table``, ``decode_table``),
safetensors (``encode``, ``decode``), compression (``encode_shard``), layouts, splits and symmetries.
"""
