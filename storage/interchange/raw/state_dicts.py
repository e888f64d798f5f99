"""State dicts with the names and the order of the reference's torch modules. numpy only."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...formats.layout import Layout
from ...zoo import Zoo

UNUSED_LOG_SIGMA2 = -10.0  # of linear biases: the reference never initialises or uses it


Indices = Literal["plain", "module"]


def torch_state(
    zoo: Zoo, values: NDArray[Any], model: int, extra: Mapping[str, NDArray[Any]], indices: Indices = "module"
) -> dict[str, NDArray[Any]]:
    """The state of ``model`` whose weights are ``values`` [D].

    Args:
        extra: other fields of the same state: ``.buffers`` and ``.counters``, or ``.log_sigma2``.
        indices: ``plain`` numbers layers as if there were no dropout layers, so all models have the same numbers.
    """
    if indices == "module":
        tensors = zoo.to_state_dict(values, model)
    else:
        names = zoo.manifest.state_dict_names["plain"]
        tensors = {names[name]: tensor for name, tensor in zoo.layout.unflatten(values).items()}
    if ".buffers" in extra:
        return _with_buffers(zoo, tensors, extra)
    if ".log_sigma2" in extra and zoo.manifest.noisy_layout is not None:
        return _with_noise(zoo, tensors, zoo.manifest.noisy_layout.unflatten(extra[".log_sigma2"]))
    return tensors


def _with_buffers(
    zoo: Zoo, tensors: Mapping[str, NDArray[Any]], extra: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Tensors in order, each buffer behind the bias of its normalisation layer."""
    described = zoo.manifest.architecture
    more = dict(Layout.from_json(described["buffers_layout"]).unflatten(extra[".buffers"]))
    for name, count in zip(described["counters"], extra.get(".counters", ()), strict=False):
        more[name] = np.asarray(count, np.int64)
    by_module: dict[str, list[str]] = {}
    for name in more:
        by_module.setdefault(name.rpartition(".")[0], []).append(name)
    ordered: dict[str, NDArray[Any]] = {}
    for name, value in tensors.items():
        ordered[name] = value
        module, _, part = name.rpartition(".")
        if part == "bias":
            ordered.update({other: more[other] for other in by_module.get(module, ())})
    return ordered


def _with_noise(
    zoo: Zoo, tensors: Mapping[str, NDArray[Any]], noise: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Tensors in order, per layer: weight, bias, and their log sigma^2."""
    ours = dict(zip(tensors, (entry.name for entry in zoo.layout.entries), strict=True))
    ordered: dict[str, NDArray[Any]] = {}
    for key, value in tensors.items():
        ordered[key] = value
        module, _, part = key.rpartition(".")
        if part == "bias":
            layer = ours[key].rpartition(".")[0]
            ordered[f"{module}.log_sigma2"] = noise[f"{layer}.weight"]
            unused = np.full(value.shape, UNUSED_LOG_SIGMA2, np.float32)
            ordered[f"{module}.log_sigma2_bias"] = noise.get(f"{layer}.bias", unused)
    return ordered
