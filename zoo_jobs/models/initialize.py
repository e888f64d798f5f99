"""Initial weights of a model from its seed, as the reference draws them: bit for bit on the same torch build.

The reference seeds torch's CPU generator, builds all layers with PyTorch's default initialisation, and then initialises
each layer again in module order. The first pass advances the generator, so it is repeated here. The draws come from a
generator of our own: no global state is read or written, and threads do not affect each other.
"""

import math
import pkgutil
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import unknown
from .code_module import code_module, filled_layers
from .code_network import CodeNetwork
from .layers import Architecture
from .registry import INITIALIZERS, OF_NETWORKS, Network, ResNet18
from .resnet18 import BLOCKS_PER_STAGE, WIDTHS

BIAS = 0.01  # reference, def_net.py: "some small non-zero value"; the default of a spec's initial_bias
TORCHVISION_STEM = (64, 3, 7, 7)


def initial_weights(
    architecture: Network, initializer: str, seed: int, *, scale: float = 1.0, bias: float = BIAS
) -> NDArray[np.float32]:
    """Parameters [D] in layout order, before the first step. Normalisations of a ResNet have weight 1 and bias 0.

    Of a network that is code, the initializer gives the weights of convolutions and linear layers; all other parameters
    are as the constructor makes them under the seed.

    Args:
        scale: multiplies the weights that the initializer gives.
        bias: value of all biases of convolutions and linear layers; an initializer of networks draws them.

    Raises InputError for an unknown initializer.
    """
    if initializer not in INITIALIZERS:
        raise unknown("initializer", initializer, INITIALIZERS)
    fill = pkgutil.resolve_name(INITIALIZERS[initializer])
    generator = torch.Generator().manual_seed(seed)
    vector = np.empty(architecture.layout.size, np.float32)
    tensors = {name: torch.from_numpy(values) for name, values in architecture.layout.unflatten(vector).items()}
    if isinstance(architecture, Architecture):
        layers = [p.name for p in architecture.parametric]
        for name in layers:
            _default(tensors[f"{name}.weight"], tensors[f"{name}.bias"], generator)
    elif isinstance(architecture, CodeNetwork):
        layers = _constructor(architecture, tensors, seed)
    else:
        layers = [*(unit.conv for unit in architecture.units), "fc"]
        _torchvision_constructor(architecture, tensors, generator)
    if initializer in OF_NETWORKS:
        fill(architecture, tensors, generator, scale)
        return vector
    for name in layers:
        fill(tensors[f"{name}.weight"], generator=generator)
        if scale != 1:
            tensors[f"{name}.weight"].mul_(scale)
        if f"{name}.bias" in tensors:
            tensors[f"{name}.bias"].fill_(bias)
    return vector


def initial_buffers(architecture: Network, num_models: int) -> dict[str, NDArray[Any]]:
    """Initial ``buffers`` [P, B] and ``counters`` [P, C] for ``initial_state``; empty for a layer list."""
    if isinstance(architecture, Architecture):
        return {}
    if isinstance(architecture, CodeNetwork):
        return _constructed_buffers(architecture, num_models)
    buffers = np.zeros((num_models, architecture.buffer_layout.size), np.float32)
    for name, values in architecture.buffer_layout.unflatten(buffers).items():
        if name.endswith("running_var"):
            values[...] = 1
    return {"buffers": buffers, "counters": np.zeros((num_models, len(architecture.counter_names)), np.int64)}


def _constructor(architecture: CodeNetwork, tensors: dict[str, Tensor], seed: int) -> list[str]:
    """Fill in the parameters that the constructor makes. Returns the names of the layers that an initializer fills."""
    module = code_module(architecture, seed)
    for name, parameter in module.named_parameters():
        tensors[name].copy_(parameter.detach())
    return [name for name in filled_layers(module) if f"{name}.weight" in tensors]


def _constructed_buffers(architecture: CodeNetwork, num_models: int) -> dict[str, NDArray[Any]]:
    values = code_module(architecture).state_dict()
    arrays: dict[str, NDArray[Any]] = {}
    if architecture.buffers:
        named = {name: values[name].numpy() for name, _ in architecture.buffers}
        arrays["buffers"] = architecture.buffer_layout.flatten(named)
    if architecture.counter_names:
        arrays["counters"] = np.array([int(values[name]) for name in architecture.counter_names], np.int64)
    return {name: np.tile(array, (num_models, 1)) for name, array in arrays.items()}


def _default(weight: Tensor, bias: Tensor | None, generator: torch.Generator) -> None:
    """``reset_parameters`` of torch's convolution and linear layers."""
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
    if bias is not None:
        bound = 1 / math.sqrt(weight[0].numel())
        nn.init.uniform_(bias, -bound, bound, generator=generator)


def _torchvision_constructor(architecture: ResNet18, tensors: dict[str, Tensor], generator: torch.Generator) -> None:
    """Repeat the draws of torchvision's ResNet constructor, then those of the stem that replaces its own."""
    stem = torch.empty(TORCHVISION_STEM, dtype=torch.float32, device="cpu")
    _default(stem, None, generator)
    for name in _construction_order():
        _default(tensors[f"{name}.weight"], None, generator)
    _default(tensors["fc.weight"], tensors["fc.bias"], generator)
    nn.init.kaiming_normal_(stem, mode="fan_out", nonlinearity="relu", generator=generator)
    for unit in architecture.units[1:]:
        nn.init.kaiming_normal_(
            tensors[f"{unit.conv}.weight"], mode="fan_out", nonlinearity="relu", generator=generator
        )
    _default(tensors["conv1.weight"], None, generator)
    for unit in architecture.units:
        tensors[f"{unit.norm}.weight"].fill_(1)
        tensors[f"{unit.norm}.bias"].fill_(0)


def _construction_order() -> Iterable[str]:
    """Names of convolutions in the order in which torchvision constructs them: a stage's shortcut before its blocks."""
    for stage in range(1, len(WIDTHS) + 1):
        if stage > 1:
            yield f"layer{stage}.0.downsample.0"
        for block in range(BLOCKS_PER_STAGE):
            yield f"layer{stage}.{block}.conv1"
            yield f"layer{stage}.{block}.conv2"
