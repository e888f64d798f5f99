"""Formats of everything that is stored: values to bytes, and back.

Manifests (``Manifest``), commit records (``PartRecord``), label columns, tables (``encode_table``, ``decode_table``),
safetensors (``encode``, ``decode``), compression (``encode_shard``), layouts, splits and symmetries.
"""
