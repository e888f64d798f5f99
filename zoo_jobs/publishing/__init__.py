"""Turns what a run has committed into a published version, and checks that a published zoo is what it says.

Public: `describe.describe`, `publish.publish`, `publish.read_back`, `recompute.recompute`, `recompute.retrain`.
"""
