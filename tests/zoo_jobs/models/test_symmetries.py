"""The operations of storage in weight space do not change the logits of any architecture."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from numpy.typing import NDArray

from tests.support.layer_lists import any_layer_lists
from zooforge.storage.formats.layout import Layout
from zooforge.storage.formats.symmetry import align_canonical, canonical_orders, permute, random_permutations
from zooforge.storage.views.standardize import Standardizer
from zooforge.zoo_jobs.models.layers import Activation, Add, Architecture, Conv2d, Flatten, Linear
from zooforge.zoo_jobs.models.registry import Network, architecture
from zooforge.zoo_jobs.models.resnet18 import ResNet18
from zooforge.zoo_jobs.models.torch_module import state_dict, torch_module
from zooforge.zoo_jobs.publishing.describe import symmetries

ALL = [("cnn-s", 1, 28), ("cnn2", 1, 28), ("cnn-l", 3, 32), ("resnet18", 3, 16)]


class Models:
    """Networks with random weights, and buffers where they have some."""

    def __init__(self, name: str, channels: int, size: int) -> None:
        self.network: Network = architecture(name, channels, "tanh", False, num_classes=10, image_size=size)
        random = np.random.default_rng(0)
        spread = 0.05 if name == "resnet18" else 0.3
        self.num = 1 if name == "resnet18" else 3  # each has 11 million values
        self.values = random.normal(0, spread, (self.num, self.network.layout.size)).astype(np.float32)
        self.buffers: NDArray[np.float32] | None = None
        if isinstance(self.network, ResNet18):
            self.buffers = random.uniform(0.5, 2, (self.num, self.network.buffer_layout.size)).astype(np.float32)
        self.groups = symmetries(self.network)
        self.images = torch.from_numpy(random.standard_normal((2, channels, size, size)).astype(np.float32))

    def permuted(self, orders: list[NDArray[np.intp]]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        values = permute(self.values, self.network.layout, self.groups, orders)
        if self.buffers is None:
            return values, None
        assert isinstance(self.network, ResNet18)
        return values, permute(self.buffers, self.network.buffer_layout, self.groups, orders)

    def logits(self, values: NDArray[np.float32], buffers: NDArray[np.float32] | None) -> Any:
        torch.set_num_threads(1)
        collected = []
        for row, vector in enumerate(values):
            module = torch_module(self.network).eval()
            counters = np.zeros(len(self.network.counter_names), np.int64) if buffers is not None else None
            own = None if buffers is None else buffers[row]
            module.load_state_dict(state_dict(self.network, vector, own, counters), strict=True)
            with torch.no_grad():
                collected.append(module(self.images).numpy())
        return np.stack(collected)


@pytest.fixture(params=ALL, ids=[name for name, _, _ in ALL], scope="module")
def models(request: pytest.FixtureRequest) -> Models:
    return Models(*request.param)


def test_hidden_units_in_any_order_give_the_same_logits(models: Models) -> None:
    expected = models.logits(models.values, models.buffers)
    assert np.ptp(expected) > 0.1  # the logits depend on images and weights
    for orders in (
        random_permutations(models.groups, models.num, 7),
        canonical_orders(models.values, models.network.layout, models.groups),
    ):
        values, buffers = models.permuted(orders)
        assert (values != models.values).any()
        np.testing.assert_allclose(models.logits(values, buffers), expected, atol=1e-5)


def test_all_orders_of_a_model_have_one_canonical_order(models: Models) -> None:
    layout: Layout = models.network.layout
    values, _ = models.permuted(random_permutations(models.groups, models.num, 7))
    ours = permute(models.values, layout, models.groups, canonical_orders(models.values, layout, models.groups))
    theirs = permute(values, layout, models.groups, canonical_orders(values, layout, models.groups))
    np.testing.assert_array_equal(ours, theirs)


def test_every_hidden_value_belongs_to_a_group(models: Models) -> None:
    reached = {(axis["tensor"], axis["axis"]) for group in models.groups for axis in group["axes"]}
    entries = models.network.layout.entries
    outer = {
        (entries[0].name, 1),
        (entries[-2].name, 0),
        (entries[-1].name, 0),
    }  # inputs and outputs cannot be permuted
    weights = {(e.name, axis) for e in entries for axis in range(min(2, len(e.shape)))}
    assert weights - reached == outer


def test_standardised_weights_give_the_same_logits_when_inverted(models: Models) -> None:
    standardizer = Standardizer.fit([models.values[:1], models.values[1:]], models.network.layout)
    standard = standardizer.apply(models.values)
    first = models.network.layout.entries[0]
    assert abs(standard[:, first.offset : first.stop].mean()) < 1e-4
    np.testing.assert_allclose(standard[:, first.offset : first.stop].std(), 1, atol=1e-4)
    back = standardizer.invert(standard)
    expected = models.logits(models.values, models.buffers)
    np.testing.assert_allclose(models.logits(back, models.buffers), expected, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(network=any_layer_lists())
def test_groups_of_a_random_list_join_its_residual_sums_and_change_no_logit(network: Architecture) -> None:
    random = np.random.default_rng(0)
    values = random.normal(0, 0.3, (2, network.layout.size)).astype(np.float32)
    shape = (2, network.in_channels, network.image_size, network.image_size)
    images = torch.from_numpy(random.standard_normal(shape).astype(np.float32))
    groups = symmetries(network)
    for orders in (random_permutations(groups, 2, 7), canonical_orders(values, network.layout, groups)):
        moved = permute(values, network.layout, groups, orders)
        for before, after in zip(values, moved, strict=True):
            module = torch_module(network).eval()
            with torch.no_grad():
                module.load_state_dict(state_dict(network, before))
                expected = module(images)
                module.load_state_dict(state_dict(network, after))
                torch.testing.assert_close(module(images), expected, rtol=1e-4, atol=1e-4)
    shuffled = permute(values, network.layout, groups, random_permutations(groups, 2, 8))
    np.testing.assert_array_equal(
        align_canonical(values, network.layout, groups), align_canonical(shuffled, network.layout, groups)
    )


def test_a_residual_stream_is_one_group() -> None:
    layers = (Conv2d(1, 4, 3, padding=1), Conv2d(4, 4, 3, padding=1), Activation("relu"), Add(0), Flatten(),
              Linear(256, 6), Linear(6, 3))  # fmt: skip
    groups = symmetries(Architecture("list", 1, 8, layers))
    assert [(g["name"], g["size"], len(g["axes"])) for g in groups] == [("conv1", 4, 6), ("linear1", 6, 3)]
    assert groups[0]["axes"][-1] == {"tensor": "linear1.weight", "axis": 1, "block": 64}


def test_a_sum_with_the_outputs_leaves_no_order_to_change() -> None:
    layers = (Flatten(), Linear(64, 3), Activation("tanh"), Linear(3, 3), Add(1))
    assert symmetries(Architecture("list", 1, 8, layers)) == []
