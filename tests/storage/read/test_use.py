"""A zoo, its states and its layout behave like Python containers, and every view can be converted back to weights."""

import inspect
import sys
from typing import Any

import numpy as np
import pytest
import torch

import zooforge
from tests.support.module_zoo import module_zoo
from tests.support.networks import logits
from tests.support.synthetic import LAYOUT, RUN, copy_zoo, description, train, weights
from zooforge.storage.errors import EpochNotPresent, FormatError, ModelNotPresent, StorageUsageError
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.read.states import States
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import Zoo


@pytest.fixture(scope="module")
def published() -> MemoryStore:
    return module_zoo()


@pytest.fixture
def zoo(local: ObjectStore, published: MemoryStore) -> Zoo:
    copy_zoo(published, "tiny-zoo", local)
    return zooforge.open_zoo(f"{local.url}/zoos/tiny-zoo")


def test_a_zoo_is_a_container_of_models(zoo: Zoo) -> None:
    assert len(zoo) == 8 and zoo.architecture["name"] == "tiny" and zoo.parent is None
    trajectory, state = zoo[5], zoo[5, -1]
    assert trajectory.epochs.tolist() == [0, 1, 3] and (state.model, state.epoch) == (5, 3)
    np.testing.assert_array_equal(trajectory.values[1], weights(5, 1))
    np.testing.assert_array_equal(state, weights(5, 3))
    assert zoo[np.int64(5), "last"] == state == zoo[np.array(5), np.int32(3)]
    assert zoo[np.array([2, 0]), -1] == zoo[[2, 0], -1] and zoo[[5], 3] == trajectory[2:]
    assert zoo[[2, 0], -1].models.tolist() == [2, 0] and zoo[0:2, 1:].epochs.tolist() == [1, 3, 1, 3]
    assert [states.models[0] for states in zoo] == list(range(8))
    with pytest.raises(ModelNotPresent):
        zoo[8]
    with pytest.raises(EpochNotPresent):
        zoo[5, 9]
    with pytest.raises(StorageUsageError):
        zoo[5, True]


def test_states_are_indexed_and_iterated_row_by_row(zoo: Zoo) -> None:
    states = zoo.weights(models=[3, 1], epochs=[1, 0])
    assert [(s.model, s.epoch) for s in states] == [(3, 1), (3, 0), (1, 1), (1, 0)]
    assert states[-1] == zoo[1, 0] and states[2:] == zoo.weights(models=[1], epochs=[1, 0])
    assert states[np.array([True, False, False, True])].models.tolist() == [3, 1] == states[[0, 3]].models.tolist()
    with pytest.raises(IndexError):
        states[4]


def test_labels_are_those_of_each_row(zoo: Zoo) -> None:
    states = zoo.weights(models=[3, 1, 3], epochs=[1, 0])
    table = states.labels(["model", "epoch", "test_correct"])
    assert table["model"].to_pylist() == states.models.tolist() and table["epoch"].to_pylist() == states.epochs.tolist()
    assert table["test_correct"].to_pylist() == [6, 3, 4, 1, 6, 3]
    assert states[2].labels()["test_correct"] == 4 and states[1:3].labels()["test_correct"].to_pylist() == [3, 4]
    with pytest.raises(StorageUsageError, match="not read from a zoo"):
        States(states.values, states.models, states.epochs, states.layout).labels()


def test_states_become_a_data_frame_and_named_tensors(zoo: Zoo) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    states = zoo.weights(models=[3, 1], epochs=[1], layers=["linear1"])
    frame = states.to_pandas()
    assert frame.index.tolist() == [(3, 1), (1, 1)] and list(frame.columns[:2]) == [
        "linear1.weight[0]",
        "linear1.weight[1]",
    ]
    np.testing.assert_array_equal(frame.to_numpy(), states.values)
    for row, state in enumerate(states):
        expected = LAYOUT.unflatten(weights(state.model, 1))["linear1.weight"]
        np.testing.assert_array_equal(states.unflatten()["linear1.weight"][row], expected)
        np.testing.assert_array_equal(state.unflatten()["linear1.weight"], expected)


def test_comparing_never_raises_and_looks_at_bits(zoo: Zoo, local: ObjectStore) -> None:
    again = zooforge.open_zoo(f"{local.url}/zoos/tiny-zoo")
    assert again == zoo and hash(again) == hash(zoo) and zoo != "zoo"
    one, other = zoo.weights(epochs=1), zoo.weights(epochs=0)
    assert one == zoo.weights(epochs=1) and one != other and one != 3 and one[0] != other[0]
    assert zoo[1, 0] == zoo[1, 0] and zoo[1, 0] != zoo[2, 0] and zoo[1, 0] != None  # noqa: E711


def test_every_object_has_a_short_repr(zoo: Zoo) -> None:
    stream = zoo.dataset(stream=True)
    shown = [zoo, zoo.weights(), zoo[1, 0], zoo.layout, zoo.manifest, zoo.dataset(), stream, zoo.standardizer()]
    for item in shown:
        assert repr(item).startswith("<") and len(repr(item)) < 120 and "\n" not in repr(item)
    assert repr(zoo.weights(epochs="0:2")) == "<States: 16 of 8 models at 2 epochs, 37 values each>"


def test_help_shows_short_names_of_types() -> None:
    methods = [function for name, function in inspect.getmembers(Zoo, callable) if not name.startswith("_")]
    shown = {function.__name__: str(inspect.signature(function)) for function in methods}
    assert "epochs: 'Selector' = None" in shown["weights"] and shown["labels"].endswith("-> 'pa.Table'")
    assert [name for name, text in shown.items() if "collections.abc" in text or "numpy." in text] == []


def test_a_layout_is_a_container_of_tensors(zoo: Zoo) -> None:
    layout = zoo.layout
    assert len(layout) == 4 and [entry.name for entry in layout][:2] == ["conv1.weight", "conv1.bias"]
    assert layout["linear1.weight"] == layout[2] == layout[-2] and "conv1.bias" in layout and "conv9.bias" not in layout
    with pytest.raises(KeyError, match=r"there are conv1\.weight"):
        layout["conv9.bias"]


@pytest.mark.parametrize("model", [0, 1, 4, 5])
def test_a_module_computes_what_its_weights_say(zoo: Zoo, model: int) -> None:
    """The four models are tanh networks, two of them with dropout."""
    torch.manual_seed(3)
    before = torch.get_rng_state()
    module = zoo.module(model, 1)
    assert torch.equal(torch.get_rng_state(), before) and not module.training
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 1, 5, 5)).astype(np.float32))
    with torch.no_grad():
        np.testing.assert_allclose(module(images), logits([weights(model, 1)])[0], atol=1e-6)
        np.testing.assert_allclose(zoo.module(model)(images), logits([weights(model, 3)])[0], atol=1e-6)
        generated = zoo.to_module(torch.full((LAYOUT.size,), 0.5), model)
        np.testing.assert_allclose(generated(images), logits([np.full(LAYOUT.size, 0.5, np.float32)])[0], atol=1e-6)


def test_a_zoo_without_layers_says_what_to_do_instead(local: ObjectStore) -> None:
    train(local, range(2), 1)
    vectorize(local, description(), RUN)
    with pytest.raises(StorageUsageError, match=r"lists no layers of tiny.*state_dict"):
        zooforge.open_zoo(f"{local.url}/zoos/tiny-zoo").module(0)


def test_every_view_has_a_way_back_to_the_weights(zoo: Zoo) -> None:
    fitted = zoo.standardizer()
    tokens: Any = zoo.dataset(epochs=1, layout="tokens", standardize=fitted)
    graphs: Any = zoo.dataset(epochs=1, layout="graph")
    for place in range(8):
        own = weights(place, 1)
        np.testing.assert_allclose(fitted.invert(zoo.detokenize(tokens[place][0])), own, atol=1e-6)
        np.testing.assert_array_equal(zoo.from_graph(graphs[place][0]), own)
    batch = np.stack([tokens[place][0][0].numpy() for place in range(8)])
    assert zoo.detokenize(batch).shape == (8, LAYOUT.size)
    np.testing.assert_array_equal(zoo.tokenize(fitted.apply(zoo.weights(epochs=1).values[:8]))[0], batch)
    cut = zoo.tokenize(zoo.weights(epochs=1), token_size=2)
    assert cut[0].shape[1:] == cut[1].shape[1:] == (len(cut[2]), 2)
    np.testing.assert_array_equal(zoo.detokenize(cut), zoo.weights(epochs=1).values)
    values = zoo.weights(epochs=1).values
    moved = zoo.permuted(values, seed=1)
    assert (moved != values).any()
    np.testing.assert_allclose(logits(moved), logits(values), atol=1e-5)
    with pytest.raises(FormatError):
        zoo.detokenize(batch[:, :2])
    with pytest.raises(FormatError):
        zoo.from_graph({**graphs[0][0], "bias": np.zeros(3)})


@pytest.mark.parametrize("package", ["torch", "pandas"])
def test_a_missing_package_is_named_with_its_install_line(
    zoo: Zoo, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    calls: dict[str, list[Any]] = {
        "torch": [
            zoo.dataset,
            lambda: zoo.module(0),
            lambda: zoo.state_dict(0, 1, torch=True),
            zoo.weights().torch,
            zoo.stacked_modules,
            lambda: zoo.to_stacked_modules(zoo.weights(), 0),
            zoo.evaluate,
            lambda: zoo.to_nfn(zoo.weights()),
            lambda: zoo.neural_graph(zoo[0, 1]),
        ],
        "pandas": [zoo.weights().to_pandas],
    }
    for call in calls[package]:
        with pytest.raises(StorageUsageError, match=rf"pip install 'zooforge\[{package}\]'"):
            call()


@pytest.mark.parametrize("align", [None, "canonical"])
def test_a_threshold_leaves_out_states_with_large_weights_and_says_how_many(
    zoo: Zoo, align: Any, caplog: pytest.LogCaptureFixture
) -> None:
    whole = zoo.weights(align=align)
    largest = np.abs(whole.values).max(axis=1)
    limit = float(np.median(largest))
    fits = largest <= limit
    assert 0 < fits.sum() < len(fits)
    kept = zoo.weights(align=align, weight_threshold=limit)
    assert kept == whole[fits] and kept.left_out == (~fits).sum() and whole.left_out == 0
    assert [r.getMessage().split(";")[0] for r in caplog.records] == [
        f"weight_threshold {limit:g}: {(~fits).sum()} of {len(fits)} states left out"
    ]
    (name,) = {entry.name for entry in list(zoo.layout)[-1:]}
    part = zoo.weights(align=align, layers=[name], weight_threshold=limit)
    assert part == zoo.weights(align=align, layers=[name])[fits] and part.left_out == kept.left_out
    caplog.clear()
    assert zoo.weights(align=align, weight_threshold=float(largest.max())) == whole and not caplog.records
    nothing = zoo.weights(align=align, weight_threshold=1e-30)
    assert len(nothing) == 0 and nothing.left_out == len(whole)


def test_a_threshold_leaves_out_states_that_are_not_finite() -> None:
    values = np.zeros((4, LAYOUT.size), np.float32)
    values[0, 1], values[1, 0], values[2, 2] = np.nan, -np.inf, -2
    numbers = np.arange(4, dtype=np.int32)
    states = States(values, numbers, numbers, LAYOUT)
    assert states.within(2).models.tolist() == [2, 3] and states.within(np.float32(1)).models.tolist() == [3]
    assert states.within(2).within(1).left_out == 3


@pytest.mark.parametrize("threshold", [0, -1.0, float("nan"), True, "4"])
def test_a_threshold_that_is_no_number_above_zero_is_refused(zoo: Zoo, threshold: Any) -> None:
    with pytest.raises(StorageUsageError, match=r"weight_threshold .*expected a number above zero"):
        zoo.weights(weight_threshold=threshold)
