"""The networks: layer lists, ResNet-18 and code, their torch modules and initial weights.

Public: `registry.ARCHITECTURES`, `registry.INITIALIZERS`, `layers.ACTIVATIONS`, `optimizers.OPTIMIZERS` (one row per
kind), `registry.architecture`, `initialize.initial_weights`, `torch_module.torch_module`.
"""
