"""The manifest's layer list is enough to build the network again."""

import torch
from hypothesis import given, settings

from tests.support.layer_lists import any_layer_lists
from zooforge.storage.views.module import build_module
from zooforge.zoo_jobs.catalogue.entries import load
from zooforge.zoo_jobs.models.initialize import initial_weights
from zooforge.zoo_jobs.models.layers import Activation, Architecture, Conv2d, MaxPool2d
from zooforge.zoo_jobs.models.torch_module import state_dict, torch_module
from zooforge.zoo_jobs.publishing.describe import describe, layer_json


@settings(max_examples=40, deadline=None)
@given(network=any_layer_lists())
def test_a_module_from_the_manifest_computes_what_was_trained(network: Architecture) -> None:
    weights = state_dict(network, initial_weights(network, "kaiming_uniform", 1))
    ours, readers = torch_module(network).eval(), build_module([layer_json(x) for x in network.layers], None, 0.0)
    ours.load_state_dict(weights, strict=True)
    readers.load_state_dict(weights, strict=True)
    images = torch.randn(2, network.in_channels, network.image_size, network.image_size)
    with torch.no_grad():
        assert torch.equal(ours(images), readers.eval()(images))


def test_a_layer_has_only_fields_that_differ_from_the_defaults_of_earlier_manifests() -> None:
    assert layer_json(Conv2d(1, 2, 3)) == {"type": "conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 3}
    assert layer_json(Conv2d(1, 2, 3, 2, 1))["stride"] == 2
    assert layer_json(MaxPool2d()) == {"type": "max_pool2d", "kernel_size": 2}
    assert layer_json(MaxPool2d(3, 2)) == {"type": "max_pool2d", "kernel_size": 3, "stride": 2}
    assert layer_json(Activation("sine", 30.0)) == {"type": "activation", "name": "sine", "omega": 30.0}


def test_an_activation_of_the_grid_is_not_named_in_the_list() -> None:
    layers = describe(load("digits8-cnn-s")).layers["plain"]
    assert layers[:3] == [
        {"type": "conv2d", "in_channels": 1, "out_channels": 8, "kernel_size": 5},
        {"type": "max_pool2d", "kernel_size": 2},
        {"type": "activation"},
    ]
