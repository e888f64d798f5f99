"""Damaged and hostile bytes for every reader of bytes that others wrote: ``python -m tests.fuzz`` (`make fuzz`)."""
