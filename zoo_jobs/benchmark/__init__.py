"""Benchmarks how well weights predict properties of models: protocols, methods, splits, scores.

Public: `protocols.registry.PROTOCOLS`, `methods.registry.METHODS`, `request.Request`.
"""
