"""Damaged and sly bytes for everything that reads what it did not write: ``python -m tests.fuzz`` (`make fuzz`)."""
