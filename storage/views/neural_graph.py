"""Networks as graphs in the form of mkofinas/neural-graphs, the attributes of its PyTorch Geometric ``Data``. Pure.

A node is an input channel or a unit, an edge a kernel. Source: ``experiments/data_generalization.py`` and
``experiments/cnn_generalization/utils.py`` of that repository.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, StorageUsageError
from ..formats.layout import Entry, Layout
from .nfn import layers_of

Flattening = Literal["repeat_nodes"] | None


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """Options of the conversion of a network to a graph.

    Attributes:
        kernel_size: height and width that kernels are padded to, around their centre; None: those of the largest.
        flattening: ``repeat_nodes`` repeats the units of the last convolution, all of them once for each position that
            a flatten layer makes of one. None: the network has no flatten layer.
        linear_as_conv: whether a linear layer's weight lies in the centre of a kernel, else in its first place.
    """

    kernel_size: tuple[int, int] | None = None
    flattening: Flattening = "repeat_nodes"
    linear_as_conv: bool = False


def to_neural_graph(vector: NDArray[np.float32], layout: Layout, options: GraphOptions) -> dict[str, Any]:
    """The graph of one weight vector [D].

    A flatten layer of torch puts all positions of a channel side by side, and neural-graphs all channels of a position,
    as Keras does: weights after a flatten layer are put into that order.

    Returns:
        ``x`` [V, 1] biases, 0 for inputs; ``edge_index`` [2, E], ascending; ``edge_attr`` [E, height * width];
        ``mlp_edge_masks`` [E], whether an edge has one value only; ``spatial_embed_mask`` [V], the units of the last
        convolution; ``node_types`` [V], 0 up to these, then 1; ``conv_mask``, ``layer_layout``, ``fmap_size``.

    Raises:
        StorageUsageError: no chain of layers with biases, a kernel larger than ``kernel_size``, or a flatten layer
            without ``flattening``.
    """
    plan = _Plan.of(layout, options)
    tensors = layout.unflatten(vector)
    blocks, biases = [], []
    for number, (weight, bias) in enumerate(plan.layers):
        blocks.append(plan.block(number, tensors[weight.name]))
        repeats = plan.positions if number == plan.last_convolution else 1
        biases.append(np.tile(tensors[bias.name], repeats))
    num_inputs = blocks[0].shape[0]
    first, edges = 0, []
    for block in blocks:
        source, target = np.meshgrid(np.arange(block.shape[0]), np.arange(block.shape[1]), indexing="ij")
        edges.append(np.stack([first + source.ravel(), first + block.shape[0] + target.ravel()]))
        first += block.shape[0]
    convolved = [len(own) for own in biases[: plan.last_convolution + 1]]
    stop = num_inputs + sum(convolved)
    nodes = np.arange(num_inputs + sum(len(own) for own in biases))
    values = [block.reshape(-1, block.shape[2]) for block in blocks]
    width = values[0].shape[1]
    return {
        "x": np.concatenate([np.zeros(num_inputs, np.float32), *biases])[:, None],
        "edge_index": np.concatenate(edges, axis=1).astype(np.int64),
        "edge_attr": np.concatenate([np.pad(v, ((0, 0), (0, width - v.shape[1]))) for v in values]),
        "mlp_edge_masks": np.concatenate([np.full(len(v), v.shape[1] == 1) for v in values]),
        "spatial_embed_mask": (nodes >= stop - (convolved or [0])[-1]) & (nodes < stop),
        "node_types": (nodes >= stop).astype(np.int64),
        "conv_mask": [int(len(weight.shape) == 4) for weight, _ in plan.layers],
        "layer_layout": [num_inputs, *(bias.size for _, bias in plan.layers)],
        "fmap_size": plan.positions,
    }


def from_neural_graph(graph: Mapping[str, Any], layout: Layout, options: GraphOptions) -> NDArray[np.float32]:
    """The weight vector [D] of a graph of ``to_neural_graph`` with the same options; arrays or tensors.

    Raises FormatError for a graph of another network, and where the copies of a repeated unit differ.
    """
    plan = _Plan.of(layout, options)
    given = [np.asarray(graph[name], np.float32) for name in ("edge_attr", "x")]
    sizes = [plan.padded_shape(number) for number in range(len(plan.layers))]
    num_nodes = sizes[0][0] + sum(shape[1] for shape in sizes)
    num_edges = sum(shape[0] * shape[1] for shape in sizes)
    if (given[0].shape, given[1].shape) != ((num_edges, sizes[0][2]), (num_nodes, 1)):
        raise FormatError(
            f"edges of shape {list(given[0].shape)} and nodes of {list(given[1].shape)}, this layout and these options "
            f"give {[num_edges, sizes[0][2]]} and {[num_nodes, 1]}"
        )
    tensors = {}
    edge, node = 0, sizes[0][0]
    for number, ((weight, bias), shape) in enumerate(zip(plan.layers, sizes, strict=True)):
        stop = edge + shape[0] * shape[1]
        own = given[1][node : node + shape[1], 0]
        block = given[0][edge:stop, : shape[2]].reshape(shape)
        tensors[weight.name], tensors[bias.name] = plan.unblock(number, block), _once(own[None], bias.size)[0]
        edge, node = stop, node + shape[1]
    return layout.flatten(tensors)


@dataclass(frozen=True)
class _Plan:
    """The layers of a layout, and how each becomes a block [in, out, values] of edges.

    ``last_convolution`` is -1 if there is none; each of its units stands for ``positions`` inputs of the next layer.
    """

    layers: list[tuple[Entry, Entry]]
    options: GraphOptions
    kernel: tuple[int, int]
    last_convolution: int
    positions: int

    @classmethod
    def of(cls, layout: Layout, options: GraphOptions) -> "_Plan":
        if options.flattening not in ("repeat_nodes", None):
            raise StorageUsageError(f"flattening {options.flattening!r}: expected 'repeat_nodes' or None")
        layers = layers_of(layout, "neural-graphs")
        kinds = [len(weight.shape) for weight, _ in layers]
        if sorted(kinds, reverse=True) != kinds:
            raise StorageUsageError("neural-graphs reads convolutions before linear layers; this layout mixes them")
        largest = [max((w.shape[axis] for w, _ in layers if len(w.shape) == 4), default=1) for axis in (2, 3)]
        kernel = tuple(options.kernel_size or largest)
        if len(kernel) != 2 or min(a - b for a, b in zip(kernel, largest, strict=True)) < 0:
            raise StorageUsageError(f"kernel_size {options.kernel_size}: the largest kernel here is {tuple(largest)}")
        last = kinds.count(4) - 1
        positions = 1
        if 0 <= last < len(layers) - 1:
            positions = layers[last + 1][0].shape[1] // layers[last][0].shape[0]
        if positions > 1 and options.flattening is None:
            raise StorageUsageError(
                f"a flatten layer makes {positions} inputs of each unit here: flattening must be 'repeat_nodes'"
            )
        return cls(layers, options, (kernel[0], kernel[1]), last, positions)

    def padded_shape(self, number: int) -> tuple[int, int, int]:
        """Inputs, outputs and values of a layer's block."""
        weight = self.layers[number][0]
        wide = len(weight.shape) == 4 or self.options.linear_as_conv
        outputs = weight.shape[0] * (self.positions if number == self.last_convolution else 1)
        return weight.shape[1], outputs, self.kernel[0] * self.kernel[1] if wide else 1

    def block(self, number: int, weight: NDArray[np.float32]) -> NDArray[np.float32]:
        """The block of a weight [out, in(, height, width)]."""
        inputs, _, width = self.padded_shape(number)
        kernel = np.swapaxes(weight, 0, 1).reshape(inputs, weight.shape[0], *(weight.shape[2:] or (1, 1)))
        if number == self.last_convolution + 1 and self.positions > 1:
            kernel = kernel.reshape(-1, self.positions, *kernel.shape[1:]).swapaxes(0, 1).reshape(kernel.shape)
        if width > 1:
            kernel = np.pad(kernel, ((0, 0), (0, 0), *self._padding(kernel.shape[2:])))
        block = kernel.reshape(inputs, weight.shape[0], width)
        return np.tile(block, (1, self.positions, 1)) if number == self.last_convolution else block

    def unblock(self, number: int, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """The weight of a block."""
        weight = self.layers[number][0]
        block = np.moveaxis(_once(np.moveaxis(block, 1, 2), weight.shape[0]), 2, 1)
        size = weight.shape[2:] or (1, 1)
        kernel = block.reshape(*block.shape[:2], *(self.kernel if block.shape[2] > 1 else (1, 1)))
        if block.shape[2] > 1:
            (top, _), (left, _) = self._padding(size)
            kernel = kernel[:, :, top : top + size[0], left : left + size[1]]
        if number == self.last_convolution + 1 and self.positions > 1:
            kernel = kernel.reshape(self.positions, -1, *kernel.shape[1:]).swapaxes(0, 1).reshape(kernel.shape)
        return np.swapaxes(kernel, 0, 1).reshape(weight.shape)

    def _padding(self, size: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int]]:
        spare = [whole - own for whole, own in zip(self.kernel, size, strict=True)]
        return (spare[0] // 2, spare[0] - spare[0] // 2), (spare[1] // 2, spare[1] - spare[1] // 2)


def _once(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """The first ``size`` values of the last axis. Raises FormatError unless the others are copies of them."""
    copies = values.reshape(*values.shape[:-1], -1, size)
    if not np.array_equal(copies, np.broadcast_to(copies[..., :1, :], copies.shape), equal_nan=True):
        raise FormatError("the copies of a repeated unit differ, so there is no network that this graph is of")
    return copies[..., 0, :]
