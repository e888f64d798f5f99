"""Damaged and hostile bytes for every reader of foreign data: ``python -m tests.fuzz`` (`make fuzz`)."""
