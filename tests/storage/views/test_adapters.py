"""Weights in the forms that NFN and neural-graphs read, by readers written here from their layout, and back."""

import sys
import types
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils.data import default_collate

from tests.support.module_zoo import module_zoo
from tests.support.networks import CNN_S, logits
from tests.support.synthetic import LAYOUT, copy_zoo, weights
from zooforge.storage.errors import FormatError, StorageUsageError
from zooforge.storage.formats.layout import Layout
from zooforge.storage.stores.local import LocalStore
from zooforge.storage.views.neural_graph import GraphOptions, from_neural_graph, to_neural_graph
from zooforge.storage.views.nfn import from_features, to_features
from zooforge.storage.zoo import Zoo, open_zoo

MLP = Layout.of(
    [("linear1.weight", (5, 2)), ("linear1.bias", (5,)), ("linear2.weight", (1, 5)), ("linear2.bias", (1,))]
)
POOLED = Layout.of(
    [("conv1.weight", (4, 1, 3, 3)), ("conv1.bias", (4,)), ("conv2.weight", (3, 4, 1, 2)), ("conv2.bias", (3,)),
     ("linear1.weight", (2, 3)), ("linear1.bias", (2,))]
)  # fmt: skip
NORMED = Layout.of([("conv1.weight", (4, 1, 3, 3)), ("bn1.weight", (4,)), ("bn1.bias", (4,))])


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    store = LocalStore(tmp_path_factory.mktemp("store"))
    copy_zoo(module_zoo(), "tiny-zoo", store)
    return open_zoo(f"{store.url}/zoos/tiny-zoo")


def vectors(layout: Layout, number: int = 3) -> Any:
    return np.random.default_rng(5).standard_normal((number, layout.size)).astype(np.float32)


def test_to_nfn_gives_the_tensors_that_nfn_makes_from_state_dicts(zoo: Zoo) -> None:
    """NFN's ``state_dict_to_tensors`` puts an axis of channels in front; its loaders collate these lists."""
    states = zoo.weights(epochs=1)
    single = []
    for state in states:
        named = list(zoo.state_dict(state.model, 1, torch=True).items())
        assert all(name.endswith("bias") for name, _ in named[1::2])
        single.append(([tensor[None] for _, tensor in named[::2]], [tensor[None] for _, tensor in named[1::2]]))
    expected_weights, expected_biases = default_collate(single)
    found_weights, found_biases = zoo.to_nfn(states)
    for expected, actual in ((expected_weights, found_weights), (expected_biases, found_biases)):
        assert [tuple(t.shape) for t in actual] == [tuple(t.shape) for t in expected]
        assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))
    assert [w.dim() for w in found_weights] == [
        6,
        4,
    ]  # what network_spec_from_wsfeat takes for a convolution and a linear layer


@pytest.mark.parametrize("layout", [LAYOUT, CNN_S, MLP, POOLED])
def test_features_become_weights_again(layout: Layout) -> None:
    values = vectors(layout)
    assert np.array_equal(from_features(*to_features(values, layout), layout), values)


def test_features_of_another_network_are_refused(zoo: Zoo) -> None:
    states = zoo.weights(epochs=1)
    weights_, biases = zoo.to_nfn(states)
    assert np.array_equal(zoo.from_nfn([w.requires_grad_() for w in weights_], biases), states.values)
    with pytest.raises(FormatError, match="1 weights and 2 biases"):
        zoo.from_nfn(weights_[:1], biases)
    with pytest.raises(FormatError, match=r"conv1\.weight: shape"):
        zoo.from_nfn(weights_[::-1], biases)
    with pytest.raises(StorageUsageError, match=r"1 axes, expected \[N, D\]"):
        zoo.to_nfn(states[0])
    with pytest.raises(StorageUsageError, match="NFN reads chains"):
        to_features(vectors(NORMED), NORMED)


def dense_graph(tensors: list[Any], kernel: tuple[int, int], repeat: bool, linear_as_conv: bool) -> dict[str, Any]:
    """The graph by a dense matrix of nodes, as neural-graphs makes it; weights and biases in turn, channels last."""
    kinds = [w.ndim == 4 for w in tensors[::2]]
    blocks = []
    for weight in tensors[::2]:
        moved = torch.from_numpy(np.array(weight)).transpose(0, 1)
        if weight.ndim == 2 and not linear_as_conv:
            blocks.append(moved.unsqueeze(-1))
            continue
        moved = moved if moved.ndim == 4 else moved[..., None, None]
        spare = [whole - own for whole, own in zip(kernel, moved.shape[2:], strict=True)]
        pads = (spare[0] // 2, spare[0] - spare[0] // 2, spare[1] // 2, spare[1] - spare[1] // 2)
        # Theirs pads width by the first pair and height by the second, which is the same for square kernels.
        blocks.append(functional.pad(moved, (pads[2], pads[3], pads[0], pads[1])).flatten(2, 3))
    biases = [torch.from_numpy(np.array(b))[:, None] for b in tensors[1::2]]
    layer_layout = [blocks[0].shape[0], *(len(b) for b in biases)]
    size = 1
    if repeat and any(kinds):
        last = max(i for i, is_conv in enumerate(kinds) if is_conv)
        size = blocks[last + 1].shape[0] // blocks[last].shape[1]
        blocks[last], biases[last] = blocks[last].repeat(1, size, 1), biases[last].repeat(size, 1)
    num_nodes = blocks[0].shape[0] + sum(len(b) for b in biases)
    features = torch.zeros(num_nodes, num_nodes, blocks[0].shape[-1])
    masks, adjacent = torch.zeros(num_nodes, num_nodes, dtype=torch.bool), torch.zeros(num_nodes, num_nodes)
    row, column = 0, blocks[0].shape[0]
    for block in blocks:
        here = slice(row, row + block.shape[0]), slice(column, column + block.shape[1])
        features[(*here, slice(0, block.shape[2]))] = block
        masks[here], adjacent[here] = block.shape[2] == 1, 1
        row, column = row + block.shape[0], column + block.shape[1]
    edges = adjacent.nonzero().t()
    sizes = [block.shape[1] for block, is_conv in zip(blocks, kinds, strict=True) if is_conv]
    inputs = blocks[0].shape[0]
    spatial = torch.zeros(num_nodes, dtype=torch.bool)
    spatial[inputs + sum(sizes[:-1]) : inputs + sum(sizes)] = True
    return {
        "x": torch.cat([torch.zeros(inputs, 1), *biases]),
        "edge_index": edges,
        "edge_attr": features[edges[0], edges[1]],
        "mlp_edge_masks": masks[edges[0], edges[1]],
        "spatial_embed_mask": spatial,
        "node_types": (torch.arange(num_nodes) >= inputs + sum(sizes)).long(),
        "conv_mask": [int(kind) for kind in kinds],
        "layer_layout": layer_layout,
        "fmap_size": size,
    }


def channels_last(vector: Any, layout: Layout) -> list[Any]:
    """Tensors of a network that flattens all channels of a position side by side, and computes the same."""
    tensors = list(layout.unflatten(vector).values())
    for place in range(2, len(tensors), 2):
        before, weight = tensors[place - 2], tensors[place]
        if before.ndim == 4 and weight.ndim == 2:
            units = before.shape[0]
            tensors[place] = weight.reshape(len(weight), units, -1).swapaxes(1, 2).reshape(weight.shape)
    return tensors


OPTIONS = [(LAYOUT, None), (CNN_S, None), (CNN_S, (7, 7)), (MLP, None), (POOLED, (3, 3)), (POOLED, (4, 5))]


@pytest.mark.parametrize(
    ("layout", "kernel", "linear_as_conv"), [(*one, as_conv) for one, as_conv in product(OPTIONS, (False, True))]
)
def test_a_graph_is_the_one_that_neural_graphs_builds(layout: Layout, kernel: Any, linear_as_conv: bool) -> None:
    (vector,) = vectors(layout, 1)
    options = GraphOptions(kernel, linear_as_conv=linear_as_conv)
    graph = to_neural_graph(vector, layout, options)
    largest = [max((e.shape[axis] for e in layout if len(e.shape) == 4), default=1) for axis in (2, 3)]
    expected = dense_graph(channels_last(vector, layout), kernel or tuple(largest), True, linear_as_conv)
    assert list(graph) == list(expected)
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert graph[name].dtype == value.numpy().dtype, name
            assert np.array_equal(graph[name], value.numpy()), name
        else:
            assert graph[name] == value, name
    assert np.array_equal(from_neural_graph(graph, layout, options), vector)


def test_a_graph_without_a_flatten_layer_needs_no_repeated_nodes() -> None:
    (vector,) = vectors(POOLED, 1)
    plain = to_neural_graph(vector, POOLED, GraphOptions(flattening=None))
    assert all(np.array_equal(value, to_neural_graph(vector, POOLED, GraphOptions())[n]) for n, value in plain.items())
    assert np.array_equal(from_neural_graph(plain, POOLED, GraphOptions(flattening=None)), vector)


def test_the_order_behind_a_flatten_layer_is_that_of_the_graph(zoo: Zoo) -> None:
    """Each input of the linear layer is a node: the unit that it stands for, at one position, sends its own weight."""
    graph = zoo.neural_graph(zoo[0, 1])
    source, target = graph["edge_index"].numpy()
    named = LAYOUT.unflatten(weights(0, 1))
    first = 1  # one input channel
    for unit, position, output in product(range(2), range(4), range(3)):
        node = first + position * 2 + unit
        assert graph["x"][node] == named["conv1.bias"][unit]
        (edge,) = np.flatnonzero((source == node) & (target == first + 8 + output))
        assert graph["edge_attr"][edge, 0] == named["linear1.weight"][output, unit * 4 + position]


def test_graphs_that_no_network_has_are_refused(zoo: Zoo) -> None:
    graph = zoo.neural_graph(zoo[0, 1], kernel_size=(3, 3))
    assert np.array_equal(zoo.from_neural_graph(graph, kernel_size=(3, 3)), weights(0, 1))
    np.testing.assert_array_equal(logits([zoo.from_neural_graph(graph, kernel_size=(3, 3))]), logits([weights(0, 1)]))
    with pytest.raises(FormatError, match="this layout and these options"):
        zoo.from_neural_graph(graph)
    torn = {**graph, "x": graph["x"].clone()}
    torn["x"][2] += 1
    with pytest.raises(FormatError, match="copies of a repeated unit differ"):
        zoo.from_neural_graph(torn, kernel_size=(3, 3))
    with pytest.raises(StorageUsageError, match="makes 4 inputs of each unit"):
        zoo.neural_graph(zoo[0, 1], flattening=None)
    with pytest.raises(StorageUsageError, match=r"largest kernel here is \(2, 2\)"):
        zoo.neural_graph(zoo[0, 1], kernel_size=(1, 3))
    with pytest.raises(StorageUsageError, match="expected 'repeat_nodes' or None"):
        zoo.neural_graph(zoo[0, 1], flattening="extra_layer")  # type: ignore[arg-type]
    with pytest.raises(StorageUsageError, match="neural-graphs reads chains"):
        to_neural_graph(vectors(NORMED)[0], NORMED, GraphOptions())


def test_data_of_pytorch_geometric_needs_that_package(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_geometric", None)
    monkeypatch.setitem(sys.modules, "torch_geometric.data", None)
    with pytest.raises(StorageUsageError, match=r"torch_geometric is not installed.*: pip install torch_geometric$"):
        zoo.pyg_data(zoo[0, 1])

    class Data(dict[str, Any]):
        """Keyword arguments become attributes that are also items, as there."""

    module = types.ModuleType("torch_geometric.data")
    module.Data = Data  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_geometric.data", module)
    data = zoo.pyg_data(zoo[0, 1], y=0.25)
    assert data["y"] == 0.25 and torch.equal(data["x"], zoo.neural_graph(zoo[0, 1])["x"])
    assert "y" not in zoo.pyg_data(zoo[0, 1]) and np.array_equal(zoo.from_neural_graph(data), weights(0, 1))
