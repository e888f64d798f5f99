"""Benchmarks what the weights of models tell of their properties: protocols, methods, splits, scores.

Public: `protocols.registry.PROTOCOLS`, `methods.registry.METHODS`, `request.Request`.
"""
