"""Bytes and their meaning: stores, formats, runs, published zoos, and reading them. Imports no other room."""

if __name__ != "zooforge.storage":
    raise ImportError(f"import zooforge.storage, not {__name__}: under two names its classes would exist twice")
