"""A stream of states: equal for equal seeds, complete for any number of workers, with bounded memory."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import zooforge
from tests.support.networks import logits
from tests.support.synthetic import LAYOUT, RUN, copy_zoo, description, train, weights
from zooforge.storage.errors import EpochNotPresent, StorageUsageError
from zooforge.storage.formats.symmetry import chain_symmetries
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.read.selection import Selection
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.views.stream import Samples, samples_of
from zooforge.storage.zoo import Zoo


@pytest.fixture(scope="module")
def published() -> MemoryStore:
    from dataclasses import replace

    store = MemoryStore()
    train(store, range(24), 6, faulty={5: 2})
    vectorize(store, replace(description(), symmetries=chain_symmetries(LAYOUT)), RUN)
    return store


@pytest.fixture
def zoo(local: ObjectStore, published: MemoryStore) -> Zoo:
    copy_zoo(published, "tiny-zoo", local)
    return zooforge.open_zoo(f"{local.url}/zoos/tiny-zoo")


STATE_BYTES = LAYOUT.size * 4


def stream(zoo: Zoo, **options: Any) -> Any:
    options = {"buffer_bytes": 24 * STATE_BYTES, "seed": 3, "epochs": "0:6", "columns": ["epoch", "model"], **options}
    return zoo.dataset(stream=True, **options)


def seen(samples: Any) -> list[tuple[int, int]]:
    return [(int(labels["model"]), int(labels["epoch"])) for _, _, labels in samples]


def loaded(dataset: Any, workers: int) -> list[tuple[int, int]]:
    torch.set_num_threads(1)
    return seen(
        DataLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context="fork" if workers else None)
    )


def test_a_pass_gives_every_state_once_in_random_order(zoo: Zoo) -> None:
    order = seen(stream(zoo))
    expected = [(m, e) for m in range(24) for e in range(6)]
    assert sorted(order) == expected and order != expected
    assert len({m for m, _ in order[:24]}) > 6  # a window mixes models
    for given, target, labels in stream(zoo):
        faulty = 2 if labels["model"] == 5 else None
        np.testing.assert_array_equal(given, weights(int(labels["model"]), int(labels["epoch"]), LAYOUT.size, faulty))
        assert given is target


def test_the_order_is_a_function_of_seed_and_pass(zoo: Zoo) -> None:
    dataset = stream(zoo)
    first = seen(dataset)
    assert seen(dataset) == first == seen(stream(zoo))
    dataset.set_epoch(1)
    assert seen(dataset) != first
    assert seen(stream(zoo, seed=4)) != first
    plain = seen(stream(zoo, shuffle=False))
    assert plain == seen(stream(zoo, shuffle=False, seed=9)) and sorted(plain) == sorted(first)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than this machine has cores
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_share_the_windows_of_one_order(zoo: Zoo, workers: int) -> None:
    dataset = stream(zoo)
    alone = seen(dataset)
    together = loaded(dataset, workers)
    assert sorted(together) == sorted(alone)
    windows = dataset._samples.windows(STATE_BYTES, 24 * STATE_BYTES, 3, 0, True)
    samples: Samples = dataset._samples
    for worker in range(workers):
        own = [(int(samples.models[r]), int(samples.epochs[r])) for w in windows[worker::workers] for r in w]
        mine = set(own)
        assert [state for state in together if state in mine] == own


def test_persistent_workers_take_the_next_pass(zoo: Zoo) -> None:
    torch.set_num_threads(1)
    dataset = stream(zoo)
    loader: Any = DataLoader(
        dataset, batch_size=8, num_workers=1, persistent_workers=True, multiprocessing_context="fork"
    )
    orders = []
    for number in range(2):
        dataset.set_epoch(number)
        orders.append(torch.cat([labels["model"] for _, _, labels in loader]).tolist())
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])
    dataset.set_epoch(0)
    assert [m for m, _ in seen(dataset)] == orders[0]


def test_a_stream_of_sequences_has_the_pairs_of_the_dataset_in_memory(zoo: Zoo) -> None:
    options: Any = {"models": "0:9", "epochs": [0, 1, 4, 6], "task": "sequence"}
    inside: Any = zoo.dataset(**options)
    expected = {(int(s[2]["model"]), int(s[2]["epoch"])): (s[0], s[1]) for s in (inside[i] for i in range(len(inside)))}
    samples = {(int(s[2]["model"]), int(s[2]["epoch"])): (s[0], s[1]) for s in stream(zoo, **options)}
    assert set(samples) == set(expected) and len(samples) == 27
    for key, (given, target) in expected.items():
        np.testing.assert_array_equal(samples[key][0], given)
        np.testing.assert_array_equal(samples[key][1], target)
    with pytest.raises(EpochNotPresent, match="two epochs"):
        stream(zoo, epochs=1, task="sequence")


def test_a_window_fits_the_buffer() -> None:
    samples = samples_of(Selection.of({epoch: range(40) for epoch in range(10)}), "reconstruction", 8, 4, 2)
    assert np.diff(samples.starts).max() == 16
    for budget in (16, 40, 1000):
        windows = samples.windows(1, budget, 0, 0, True)
        assert all(len(rows) <= budget for rows in windows)
        assert sorted(np.concatenate(windows).tolist()) == list(range(400))


@pytest.mark.parametrize("kind", ["stream", "memory"])
def test_augmented_and_aligned_states_have_the_logits_of_their_models(zoo: Zoo, kind: str) -> None:
    options: Any = {"epochs": [1, 3], "models": "8:20"}
    for change in ({"augment": "permute"}, {"align": "canonical"}):
        dataset: Any = (
            stream(zoo, **options, **change) if kind == "stream" else zoo.dataset(**options, **change, seed=3)
        )
        samples = list(dataset) if kind == "stream" else [dataset[i] for i in range(len(dataset))]
        plain = np.stack([weights(int(s[2]["model"]), int(s[2]["epoch"])) for s in samples])
        moved = np.stack([s[0].numpy() for s in samples])
        assert (moved != plain).any()
        np.testing.assert_allclose(np.sort(moved), np.sort(plain))
        np.testing.assert_allclose(logits(moved), logits(plain), atol=1e-5)


def test_an_augmentation_depends_on_seed_pass_and_sample_only(zoo: Zoo) -> None:
    def drawn(**options: Any) -> dict[tuple[int, int], Any]:
        dataset = stream(zoo, augment="permute", **options)
        return {(int(s[2]["model"]), int(s[2]["epoch"])): s[0].numpy() for s in dataset}

    first, unordered, other = drawn(), drawn(shuffle=False), drawn(seed=8)
    for key, value in first.items():
        np.testing.assert_array_equal(unordered[key], value)
    assert any((other[key] != value).any() for key, value in first.items())


def test_an_input_and_its_target_are_permuted_alike(zoo: Zoo) -> None:
    for given, target, labels in stream(zoo, augment="permute", task="sequence", models="8:12"):
        model, epoch = int(labels["model"]), int(labels["epoch"])
        where = [int(np.flatnonzero(weights(model, epoch) == value)[0]) for value in given.numpy()]
        np.testing.assert_array_equal(target, weights(model, epoch + 1)[where])


def test_standardisation_is_fitted_on_the_train_split_alone(zoo: Zoo) -> None:
    train_states = zoo.weights(split="train", epochs="0:6").values
    finite = train_states[np.isfinite(train_states).all(axis=1)].astype(np.float64)
    for split in ("train", "val", "test"):
        dataset = stream(zoo, split=split, standardize=True)
        for entry in LAYOUT.entries:
            own = finite[:, entry.offset : entry.stop]
            np.testing.assert_allclose(dataset.standardizer.mean[entry.offset], own.mean(), rtol=1e-9)
            np.testing.assert_allclose(dataset.standardizer.deviation[entry.offset], own.std(), rtol=1e-9)
        given, _, labels = next(s for s in dataset if s[2]["model"] != 5)
        plain = weights(int(labels["model"]), int(labels["epoch"]))[None]
        back = dataset.standardizer.invert(given.numpy())[None]
        np.testing.assert_allclose(logits(back), logits(plain), atol=1e-5)
    memory: Any = zoo.dataset("val", "0:6", standardize=True, layout="tokens")
    assert memory.standardizer.mean[0] == dataset.standardizer.mean[0]


@pytest.mark.parametrize("layout", ["vector", "state_dict", "tokens", "graph"])
def test_every_layout_goes_into_batches(zoo: Zoo, layout: str) -> None:
    dataset = stream(zoo, layout=layout, models="0:6:2", columns="all")
    given, _, labels = next(iter(DataLoader(dataset, batch_size=4)))
    assert len(labels["test_acc"]) == 4 and isinstance(labels["activation"][0], str)
    assert given is not None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"align": "canonical", "augment": "permute"}, "contradict"),
        ({"standardize": True, "layout": "state_dict"}, "no model"),
        ({"augment": "flip"}, "augment 'flip': expected one of permute"),
        ({"align": "best"}, "align 'best': expected one of canonical"),
    ],
)
def test_refuses_incompatible_options(zoo: Zoo, options: Any, words: str) -> None:
    for streamed in (True, False):
        with pytest.raises(StorageUsageError, match=words):
            zoo.dataset(stream=streamed, **options)


def test_a_zoo_without_symmetries_is_neither_aligned_nor_permuted(local: ObjectStore) -> None:
    train(local, range(3), 1)
    vectorize(local, description(), RUN)
    plain = zooforge.open_zoo(f"{local.url}/zoos/tiny-zoo")
    calls: list[Callable[[], Any]] = [
        lambda: plain.weights(align="canonical"),
        lambda: plain.state_dict(0, 1, align="canonical"),
        lambda: plain.dataset(augment="permute"),
        lambda: plain.dataset(align="canonical", stream=True),
    ]
    for call in calls:
        with pytest.raises(StorageUsageError, match="declares no permutation symmetries"):
            call()


def test_a_state_dict_can_be_aligned(zoo: Zoo) -> None:
    aligned = zoo.weights(models=3, epochs=2, align="canonical").values[0]
    for name, value in zoo.to_state_dict(aligned, 3).items():
        np.testing.assert_array_equal(zoo.state_dict(3, 2, align="canonical")[name], value)


def test_states_come_out_as_arrow(zoo: Zoo) -> None:
    table = zoo.weights(epochs=[1, 2], models=[0, 7]).arrow()
    assert table.column_names == ["model", "epoch", "weights"] and table.num_rows == 4
    np.testing.assert_array_equal(table["weights"].to_pylist()[3], weights(7, 2))
