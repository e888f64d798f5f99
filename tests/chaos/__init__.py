"""Runs that are disturbed at random, and runs that go on for hours: `make chaos`, `make soak`."""
