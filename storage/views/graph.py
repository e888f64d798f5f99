"""A network as a graph of neurons, as neural-graph and neural-functional work reads it. Pure numpy."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from ..formats.layout import Entry, Layout


def to_graph(vector: NDArray[np.float32], layout: Layout) -> dict[str, NDArray[Any]]:
    """Nodes are channels and units, edges are weights; permuted hidden units give an isomorphic graph.

    Returns:
        ``bias`` [V] (0 for inputs), ``layer`` [V], ``edge_index`` [2, E] from the earlier to the later node,
        ``weight`` [E, K] the kernel's values padded with zeros to the largest, ``kernel`` [E] how many of them count,
        ``position`` [E] the spatial position that an input of a flattened layer stands for, 0 elsewhere.
    """
    tensors = layout.unflatten(vector)
    weights = _weights(layout)
    width = max(int(np.prod(entry.shape[2:], dtype=np.int64)) for entry in weights)
    num_inputs = weights[0].shape[1]
    bias, layer = [np.zeros(num_inputs, np.float32)], [np.zeros(num_inputs, np.int32)]
    edges, values, kernels, positions = [], [], [], []
    first, units = 0, num_inputs
    for number, entry in enumerate(weights, 1):
        outputs, inputs = entry.shape[:2]
        block = inputs // units
        kernel = tensors[entry.name].reshape(outputs, inputs, -1)
        target, source = np.meshgrid(np.arange(outputs), np.arange(inputs), indexing="ij")
        edges.append(np.stack([first + (source // block).ravel(), first + units + target.ravel()]))
        flat = kernel.reshape(outputs * inputs, -1)
        values.append(np.pad(flat, ((0, 0), (0, width - flat.shape[1]))))
        kernels.append(np.full(len(flat), flat.shape[1], np.int32))
        positions.append((source % block).ravel().astype(np.int32))
        own = tensors.get(entry.name.removesuffix("weight") + "bias")
        bias.append(np.zeros(outputs, np.float32) if own is None else own)
        layer.append(np.full(outputs, number, np.int32))
        first, units = first + units, outputs
    return {
        "bias": np.concatenate(bias),
        "layer": np.concatenate(layer),
        "edge_index": np.concatenate(edges, axis=1).astype(np.int64),
        "weight": np.concatenate(values),
        "kernel": np.concatenate(kernels),
        "position": np.concatenate(positions),
    }


def from_graph(graph: Mapping[str, Any], layout: Layout) -> NDArray[np.float32]:
    """The weight vector [D] of a graph of ``to_graph``, arrays or tensors. Raises FormatError for another layout."""
    weight, bias = (np.asarray(graph[name], np.float32) for name in ("weight", "bias"))
    weights = _weights(layout)
    num_edges, num_nodes = sum(e.shape[0] * e.shape[1] for e in weights), sum(e.shape[0] for e in weights)
    num_nodes += weights[0].shape[1]
    if (len(weight), len(bias)) != (num_edges, num_nodes):
        raise FormatError(
            f"a graph of {len(weight)} edges and {len(bias)} nodes, this layout gives {num_edges} and {num_nodes}"
        )
    vector = np.zeros(layout.size, np.float32)
    edge, node = 0, weights[0].shape[1]
    for entry in weights:
        outputs, inputs = entry.shape[:2]
        vector[entry.offset : entry.stop] = weight[
            edge : edge + outputs * inputs, : entry.size // (outputs * inputs)
        ].ravel()
        name = f"{entry.layer}.bias"
        if name in layout:
            vector[layout[name].offset : layout[name].stop] = bias[node : node + outputs]
        edge, node = edge + outputs * inputs, node + outputs
    return vector


def _weights(layout: Layout) -> list[Entry]:
    return [entry for entry in layout if entry.name.endswith(".weight") and len(entry.shape) >= 2]
