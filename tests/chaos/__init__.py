"""Runs that are disturbed, runs of many hours, and a simulated month: `make chaos`, `make soak`, `make month`."""
