"""The networks: layer lists and ResNet-18, their torch modules and initial weights.

Public: `registry.ARCHITECTURES`, `registry.INITIALIZERS`, `layers.ACTIVATIONS`, `optimizers.OPTIMIZERS` (one row per
kind), `registry.architecture`, `initialize.initial_weights`, `torch_module.torch_module`.
"""
