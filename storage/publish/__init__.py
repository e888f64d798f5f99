"""Writing a version of a zoo from a ``ZooDescription``.

Shards (``build_shards``), tables (``write_tables``), manifest (``vectorize``, ``seal``), copies, and HEAD.
"""
