"""The methods that make sparse twins of trained models: variational dropout and magnitude pruning.

Public: `variational_dropout.log_alpha`, `kl_schedule.kl_weight`, `magnitude.pruned_by_magnitude`.
"""
