"""The reference's ``index_dict.json``, which gives the place of each layer in a weight vector. Pure."""

import math
from collections.abc import Mapping
from typing import Any

from .layout import Layout


def index_dict(layout: Layout, state_dict_names: Mapping[str, str]) -> dict[str, Any] | None:
    """Six lists of equal length, as the reference's readers expect them; None for a network that they cannot describe.

    Weights occupy ``idx_start`` ... + kernel_no * kernel_size * channels_in, then biases of length kernel_no. The
    first linear layer after the convolutions is described as spatial positions x channels.

    Args:
        state_dict_names: layout name to ``module_list.N.weight`` and so on, without dropout layers.
    """
    columns: dict[str, list[Any]] = {
        name: [] for name in ("layer", "idx_start", "idx_length", "kernel_no", "kernel_size", "channels_in")
    }
    entries = {entry.name: entry for entry in layout.entries}
    channels = None
    for entry in layout.entries:
        layer, _, kind = entry.name.rpartition(".")
        if kind != "weight":
            continue
        bias = entries.get(f"{layer}.bias")
        position = state_dict_names.get(entry.name, "").split(".")
        if bias is None or len(position) != 3 or position[0] != "module_list":
            return None
        outputs, inputs = entry.shape[0], entry.shape[1]
        if len(entry.shape) == 4:
            size, channels_in, kind_name = math.prod(entry.shape[2:]), inputs, "conv2d"
        else:
            channels_in = channels if channels is not None and inputs % channels == 0 else inputs
            size, kind_name = inputs // channels_in, "fc"
        channels = outputs
        columns["layer"].append([int(position[1]), kind_name])
        columns["idx_start"].append(entry.offset)
        columns["idx_length"].append(entry.size + bias.size)
        columns["kernel_no"].append(outputs)
        columns["kernel_size"].append(size)
        columns["channels_in"].append(channels_in)
    return columns
