"""Computes what a request takes, before and while it runs: work units and tasks, time, bytes and price.

Public: `units.request`, `units.tasks`, `estimate.estimate`, `machines.machine`, `pricing.planned`.
"""
