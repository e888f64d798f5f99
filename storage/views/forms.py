"""Converts the weights of a zoo to the forms that other programs read, and back. ``Zoo`` inherits these methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, StorageUsageError, import_optional
from ..formats.symmetry import augment_permute
from ..read.reader import ZooReader
from .graph import from_graph
from .neural_graph import Flattening, GraphOptions, from_neural_graph, to_neural_graph
from .nfn import from_features, to_features
from .tokens import detokenize, tokenize

if TYPE_CHECKING:
    import torch


class WeightForms(ZooReader):
    """A zoo whose weights take other forms. Values are arrays, tensors, ``State`` or ``States``."""

    def from_state_dict(self, state: Mapping[str, Any]) -> NDArray[np.float32]:
        """The weights [D] of a state dict such as ``state_dict`` returns; [N, D] if it has an axis of states in front.

        Args:
            state: arrays or tensors under the layout's names, or those of a torch module with or without dropout
                layers. Buffers are left out, since they are no weights.

        Raises:
            FormatError: a tensor is missing, unknown or of another shape.
        """
        others = {entry.name for entry in self.buffers_layout} | set(self.manifest.architecture.get("counters", ()))
        weights = {name: to_numpy(value) for name, value in state.items() if name not in others}
        for names in self.manifest.state_dict_names.values():
            if set(names.values()) == set(weights):
                weights = {own: weights[name] for own, name in names.items()}
                break
        try:
            return self.layout.flatten(weights)
        except ValueError as error:
            raise FormatError(f"zoo {self.name!r}: no state dict of its networks: {error}") from None

    def tokenize(
        self, values: Any, token_size: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int32]]:
        """Weight vectors [N, D] as tokens: values [N, T, S], mask [N, T, S] and positions [T, 3].

        As ``dataset(layout="tokens")`` gives them one by one; ``detokenize`` gives the vectors again.

        Args:
            token_size: S; a channel with more weights takes several tokens. None: the length of the longest channel.
        """
        tokens = tokenize(to_rows(values), self.layout, token_size)
        return tokens.values, tokens.mask, tokens.positions

    def detokenize(self, tokens: Any) -> Any:
        """The weight vectors of tokens: [N, D] of values [N, T, S], [D] of values [T, S].

        Args:
            tokens: values, or values, mask and positions as ``tokenize`` or a sample of ``dataset(layout="tokens")``
                has them.

        Returns:
            An array for arrays; for tensors a tensor, through which gradients flow.

        Raises:
            FormatError: not as many tokens as the layout has.
        """
        values = tokens[0] if isinstance(tokens, tuple | list) else tokens
        values = values if hasattr(values, "new_zeros") else np.asarray(values, np.float32)
        return detokenize(values, self.layout) if values.ndim == 3 else detokenize(values[None], self.layout)[0]

    def from_graph(self, graph: Mapping[str, Any]) -> NDArray[np.float32]:
        """The weight vector [D] of a graph of ``dataset(layout="graph")``. Raises FormatError for another network."""
        return from_graph(graph, self.layout)

    def permuted(self, values: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
        """Weight vectors [N, D] with hidden units in a random order, another for each row; logits stay equal."""
        return augment_permute(values, self.layout, self.symmetries, seed)

    def to_nfn(self, values: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Weights and biases as NFN's ``WeightSpaceFeatures(weights, biases)`` takes them, layer by layer.

        Args:
            values: [N, D], e.g. ``zoo.weights(...)``.

        Returns:
            Tensors [N, 1, out, in], or [N, 1, out, in, height, width] of a convolution, and [N, 1, out].

        Raises:
            StorageUsageError: a network that is no chain of convolutions and linear layers with biases.
        """
        torch_package = import_optional("torch")
        weights, biases = to_features(to_rows(values), self.layout)
        from_numpy = torch_package.from_numpy
        return [from_numpy(np.array(w)) for w in weights], [from_numpy(np.array(b)) for b in biases]

    def from_nfn(self, weights: Sequence[Any], biases: Sequence[Any]) -> NDArray[np.float32]:
        """The weight vectors [N, D] of ``to_nfn``. Raises FormatError for another network."""
        return from_features([to_numpy(w) for w in weights], [to_numpy(b) for b in biases], self.layout)

    def neural_graph(
        self,
        vector: Any,
        *,
        kernel_size: tuple[int, int] | None = None,
        flattening: Flattening = "repeat_nodes",
        linear_as_conv: bool = False,
    ) -> dict[str, Any]:
        """The graph of one state as neural-graphs builds it: the attributes of its ``Data``, in a plain dict.

        Args:
            vector: [D], e.g. ``zoo[5, -1]``.
            kernel_size, flattening, linear_as_conv: as ``max_kernel_size``, ``flattening_method`` and
                ``linear_as_conv`` there; None: the largest kernel of the network.

        Returns:
            Tensors ``x`` [V, 1], ``edge_index`` [2, E], ``edge_attr`` [E, values of a kernel], ``mlp_edge_masks`` [E],
            ``spatial_embed_mask`` [V], ``node_types`` [V], and the lists and numbers ``conv_mask``, ``layer_layout``
            and ``fmap_size``.

        Raises:
            StorageUsageError: a network that neural-graphs cannot take, or an option that does not fit it.
        """
        torch_package = import_optional("torch")
        options = GraphOptions(kernel_size, flattening, linear_as_conv)
        graph = to_neural_graph(to_numpy(vector).astype(np.float32), self.layout, options)
        return {
            name: torch_package.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
            for name, value in graph.items()
        }

    def pyg_data(
        self,
        vector: Any,
        *,
        y: float | None = None,
        kernel_size: tuple[int, int] | None = None,
        flattening: Flattening = "repeat_nodes",
        linear_as_conv: bool = False,
    ) -> Any:
        """``neural_graph`` as a ``torch_geometric.data.Data``, with ``y`` where it is given.

        Raises StorageUsageError if torch_geometric is not installed. Also the errors of ``neural_graph``.
        """
        package = import_optional("torch_geometric.data", "torch_geometric")
        graph = self.neural_graph(vector, kernel_size=kernel_size, flattening=flattening, linear_as_conv=linear_as_conv)
        return package.Data(**graph, **({} if y is None else {"y": y}))

    def from_neural_graph(
        self,
        graph: Any,
        *,
        kernel_size: tuple[int, int] | None = None,
        flattening: Flattening = "repeat_nodes",
        linear_as_conv: bool = False,
    ) -> NDArray[np.float32]:
        """The weight vector [D] of a graph, a dict or a ``Data``, that was made with the same options.

        Raises FormatError for a graph of another network, and where copies of a repeated unit differ.
        """
        options = GraphOptions(kernel_size, flattening, linear_as_conv)
        values = {name: to_numpy(graph[name]) for name in ("x", "edge_attr")}
        return from_neural_graph(values, self.layout, options)


def to_numpy(values: Any) -> NDArray[Any]:
    """An array, or a tensor of any device that may have a gradient, as an array."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def to_rows(values: Any) -> NDArray[np.float32]:
    """Weight vectors as an array [N, D]. Raises StorageUsageError for another number of axes."""
    array = to_numpy(values).astype(np.float32)
    if array.ndim != 2:
        raise StorageUsageError(f"weights of {array.ndim} axes, expected [N, D], e.g. zoo.weights(...)")
    return array
