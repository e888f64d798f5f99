"""The tasks that the models of a zoo learn: one file and one row of the registry for each.

Public: `registry.TASKS`, `contract.Task`, and for engines `image_regression.coordinates` and `targets`.
"""
