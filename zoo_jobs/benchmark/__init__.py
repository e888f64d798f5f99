"""Predicts properties of models from their weights by linear models, as the reference benchmarks its zoos.

Public: `linear_models.read_states`, `linear_models.benchmark`.
"""
