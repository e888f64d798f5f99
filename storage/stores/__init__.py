"""Keys and bytes, apart from what the bytes mean: ``open_store``, ``probe``, ``put_object``, ``get_object``."""
