"""State dicts with the names and the order of the reference's torch modules. numpy only."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...formats.layout import Layout
from ...zoo import Zoo

UNUSED_LOG_SIGMA2 = -10.0  # for linear biases: the reference neither initialises nor uses it


Indices = Literal["plain", "module"]


def torch_state(
    zoo: Zoo, values: NDArray[Any], model: int, extra: Mapping[str, NDArray[Any]], indices: Indices = "module"
) -> dict[str, NDArray[Any]]:
    """The state dict of ``model`` with the weights ``values`` [D].

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
    """The tensors in order. The buffers of a normalisation layer follow its bias."""
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
    """The tensors in order. Log sigma^2 of the weight and of the bias of a layer follow its bias."""
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
