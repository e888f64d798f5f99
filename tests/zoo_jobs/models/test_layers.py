"""Every kind of layer: shapes, counts and module against torch's own layers, and lists that do not fit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from tests.support.layer_lists import Plain, any_layer_lists
from zooforge.zoo_jobs.models.layers import (
    Activation,
    Add,
    Architecture,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
)
from zooforge.zoo_jobs.models.torch_module import state_dict, torch_module


@settings(max_examples=60, deadline=None)
@given(network=any_layer_lists())
def test_a_random_list_computes_what_torchs_own_layers_compute(network: Architecture) -> None:
    torch.manual_seed(1)
    plain = Plain(network)
    vector = torch.cat([parameter.detach().reshape(-1) for parameter in plain.parameters()]).numpy()
    assert vector.size == network.layout.size
    module = torch_module(network, 0.5)
    module.load_state_dict(state_dict(network, vector), strict=True)
    images = torch.randn(3, network.in_channels, network.image_size, network.image_size)
    outputs: list[torch.Size] = []
    for layer in plain.layers:
        layer.register_forward_hook(lambda _layer, _inputs, output: outputs.append(output.shape[1:]))
    with torch.no_grad():
        torch.testing.assert_close(module.eval()(images), plain(images), rtol=1e-4, atol=1e-5)
    assert [tuple(shape) for shape in outputs] == list(network.shapes[1:])


@settings(max_examples=40, deadline=None)
@given(network=any_layer_lists())
def test_multiply_adds_are_the_products_of_a_value_inside_the_image_with_a_weight(network: Architecture) -> None:
    total = first = 0
    for p in network.parametric:
        layer = p.layer
        if isinstance(layer, Linear):
            macs = layer.in_features * layer.out_features
        else:
            ones = torch.ones(1, *network.shapes[p.index])
            weight = torch.ones(layer.out_channels, layer.in_channels, layer.kernel_size, layer.kernel_size)
            macs = int(torch.nn.functional.conv2d(ones, weight, None, layer.stride, layer.padding).sum())
        first = first or macs
        total += macs
    assert network.num_macs == total
    assert network.num_train_macs == 3 * total - first


def test_sizes_are_rounded_down_and_a_residual_keeps_its_shape() -> None:
    layers: tuple[Layer, ...] = (
        Conv2d(1, 4, 3, stride=2, padding=1), Activation("sine", 30.0), Conv2d(4, 4, 3, padding=1), Add(1),
        MaxPool2d(3, 2), AvgPool2d(2, 3), Dropout(), GlobalAvgPool2d(), Linear(4, 12),
    )  # fmt: skip
    network = Architecture("list", 1, 29, layers)
    assert network.shapes == (
        (1, 29, 29), (4, 15, 15), (4, 15, 15), (4, 15, 15), (4, 15, 15), (4, 7, 7), (4, 2, 2), (4, 2, 2), (4,), (12,),
    )  # fmt: skip
    assert network.num_classes == 12
    assert [p.name for p in network.parametric] == ["conv1", "conv2", "linear1"]
    assert list(network.state_dict_names.values())[:2] == ["module_list.0.weight", "module_list.0.bias"]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((Conv2d(1, 2, 3, padding=3), Flatten(), Linear(2, 2)), "layer 0: padding 3 is not below the kernel 3"),
        ((Conv2d(2, 2, 3), Flatten(), Linear(2, 2)), "layer 0: Conv2d(in_channels=2"),
        ((Conv2d(1, 2, 9), Flatten(), Linear(2, 2)), "layer 0: kernel 9 is larger than the image, 8 x 8"),
        ((AvgPool2d(0, 1), Flatten(), Linear(64, 2)), "layer 0: kernel 0 and stride 1 must be at least 1"),
        ((GlobalAvgPool2d(), MaxPool2d()), "layer 1: it takes images"),
        ((Flatten(), Linear(64, 3), Add(0)), "layer 2: add needs equal shapes: layer 0 gives [64]"),
        ((Flatten(), Add(1), Linear(64, 2)), "layer 1: add reads an earlier layer"),
        ((Linear(64, 2),), "layer 0: Linear(in_features=64"),
        ((Conv2d(1, 2, 3),), "the last layer gives [2, 6, 6], not one value per class"),
        ((Flatten(),), "no layer has parameters"),
    ],
)
def test_an_invalid_list_is_refused_and_the_layer_named(layers: tuple[Layer, ...], message: str) -> None:
    with pytest.raises(ValueError, match="list") as refusal:
        Architecture("list", 1, 8, layers)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_only_the_sine_has_a_frequency() -> None:
    with pytest.raises(ValueError, match=r"activation relu has no omega, found 30\.0"):
        Activation("relu", 30.0)


def test_the_defaults_are_the_layers_of_the_reference() -> None:
    assert Conv2d(1, 2, 3) == Conv2d(1, 2, 3, 1, 0)
    assert MaxPool2d() == MaxPool2d(2, 2)
    network = Architecture("list", 1, 6, (Conv2d(1, 2, 3), MaxPool2d(), Flatten(), Linear(8, 2)))
    assert network.num_macs == 9 * 2 * 16 + 16
    assert np.prod(network.shapes[2]) == 8
