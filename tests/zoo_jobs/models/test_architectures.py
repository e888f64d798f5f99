"""Networks as the reference has them: shapes, counts, names, state dicts."""

import sys
from itertools import pairwise
from pathlib import Path
from subprocess import run

import numpy as np
import pytest
import torch
from torch import nn

from zooforge.storage.interchange.raw.architectures import SHARD_SHAPES
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.models.initialize import initial_buffers, initial_weights
from zooforge.zoo_jobs.models.layers import ACTIVATIONS
from zooforge.zoo_jobs.models.registry import ARCHITECTURES, Architecture, ResNet18, architecture
from zooforge.zoo_jobs.models.torch_module import state_dict, torch_module

CNNS = ("cnn-s", "cnn2", "cnn-l")


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize(
    ("name", "channels", "num_parameters", "num_weights"),
    [
        ("cnn-s", 1, 2_464, 2_416),
        ("cnn-s", 3, 2_864, 2_816),
        ("cnn2", 1, 3_047, 2_996),
        ("cnn2", 3, 3_347, 3_296),
        ("cnn-l", 1, 10_565, 10_472),
        ("cnn-l", 3, 10_853, 10_760),
    ],
)
def test_a_cnn_has_the_parameters_of_the_reference(
    name: str, channels: int, num_parameters: int, num_weights: int, dropout: bool
) -> None:
    layout = architecture(name, channels, "tanh", dropout).layout
    assert layout.size == num_parameters
    assert sum(e.size for e in layout.entries if e.name.endswith("weight")) == num_weights


@pytest.mark.parametrize(
    ("name", "dropout", "indices"),
    [
        ("cnn-s", False, [0, 3, 6, 9, 11]),
        ("cnn-s", True, [0, 4, 8, 11, 14]),
        ("cnn2", False, [0, 3, 6, 9, 11]),
        ("cnn2", True, [0, 4, 8, 11, 14]),
        ("cnn-l", False, [0, 4, 8, 13, 16]),
        ("cnn-l", True, [0, 4, 8, 13, 16]),
    ],
)
def test_dropout_shifts_indices_where_it_does_in_the_reference(name: str, dropout: bool, indices: list[int]) -> None:
    network = architecture(name, 3, "relu", dropout)
    assert isinstance(network, Architecture)
    assert [p.index for p in network.parametric] == indices
    keys = list(torch_module(network).state_dict())
    assert keys == [f"module_list.{i}.{part}" for i in indices for part in ("weight", "bias")]
    assert keys == list(network.state_dict_names.values())


def test_pooling_comes_before_the_activation_and_dropout_after_it() -> None:
    layers = architecture("cnn-s", 1, "gelu", True).layers
    assert layers is not None
    kinds = [type(layer).__name__ for layer in layers]
    assert kinds[:8] == ["Conv2d", "MaxPool2d", "Activation", "Dropout"] * 2
    assert kinds[-3:] == ["Activation", "Dropout", "Linear"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", CNNS)
def test_a_state_dict_loads_strictly_and_its_values_are_the_vectors(name: str, activation: str) -> None:
    network = architecture(name, 3, activation, True)
    vector = initial_weights(network, "normal", 7)
    module = torch_module(network, dropout_ratio=0.5)
    assert not any(parameter.any() for parameter in module.parameters())
    module.load_state_dict(state_dict(network, vector), strict=True)
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])
    assert flat.numpy().tobytes() == vector.tobytes()
    module.eval()
    size = network.image_size
    assert module(torch.zeros(2, 3, size, size)).shape == (2, 10)


@pytest.mark.parametrize(("classes", "num_parameters"), [(10, 11_173_962), (100, 11_220_132), (200, 11_271_432)])
def test_resnet18_has_the_parameters_buffers_and_names_of_torchvision(classes: int, num_parameters: int) -> None:
    network = architecture("resnet18", 3, "relu", False, num_classes=classes)
    assert isinstance(network, ResNet18)
    assert network.layers is None
    assert network.layout.size == num_parameters
    assert network.buffer_layout.size + len(network.counter_names) == 9_620
    tensors = torch_module(network).state_dict()
    assert len(tensors) == 122
    expected = {e.name: e.shape for e in (*network.layout.entries, *network.buffer_layout.entries)}
    expected |= dict.fromkeys(network.counter_names, ())
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == expected
    parameters = [name for name, _ in torch_module(network).named_parameters()]
    assert parameters == [e.name for e in network.layout.entries]
    buffers = [name for name, b in torch_module(network).named_buffers() if b.dtype == torch.float32]
    assert buffers == [e.name for e in network.buffer_layout.entries]
    assert list(tensors)[:6] == ["conv1.weight", "bn1.weight", "bn1.bias", *(
        f"bn1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    )]  # fmt: skip


def test_resnet18_counts_its_parameters_stage_by_stage_as_the_reference() -> None:
    layout = ResNet18(3, 32, 10).layout
    stages = [sum(e.size for e in layout.entries if e.name.startswith(f"layer{i}.")) for i in (1, 2, 3, 4)]
    assert stages == [147_968, 525_568, 2_099_712, 8_393_728]


def test_resnet18_computes_what_torchvision_computes() -> None:
    """Logits of torchvision 0.28's ResNet with the stem replaced, kaiming_uniform, seed 3, recorded on torch 2.13.0."""
    network = ResNet18(3, 32, 10)
    buffers = initial_buffers(network, 1)
    module = torch_module(network)
    weights = initial_weights(network, "kaiming_uniform", 3)
    module.load_state_dict(state_dict(network, weights, buffers["buffers"][0], buffers["counters"][0]), strict=True)
    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        evaluated = module.eval()(images)[0, :3].numpy()
        trained = module.train()(images)[0, :3].numpy()
    np.testing.assert_allclose(evaluated, [29.087888717651367, 19.42292594909668, 6.125294208526611], rtol=1e-4)
    np.testing.assert_allclose(trained, [0.49042826890945435, 2.5249111652374268, 0.6631615161895752], rtol=1e-4)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_multiply_adds_are_those_of_the_layers_that_run(name: str) -> None:
    network = architecture(name, 3, "relu", False)
    module = torch_module(network).eval()
    total = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        total += layer.weight[0].numel() * output.numel()

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        module(torch.zeros(1, 3, network.image_size, network.image_size))
    assert network.num_macs == total
    assert 2 * total < network.num_train_macs < 3 * total


def test_building_a_module_leaves_the_callers_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    for name in ARCHITECTURES:
        torch_module(architecture(name, 3, "tanh", True), 0.5)
    assert torch.equal(torch.rand(3), expected)


def test_units_and_shards_of_the_released_architectures_never_change() -> None:
    """Runs pin their units, but a published zoo that grows keeps its shards by these shapes."""
    released = {"cnn-s": 256, "cnn2": 256, "cnn-l": 128, "resnet18": 1}
    assert {name: ARCHITECTURES[name].unit_models for name in released} == released
    assert {name: ARCHITECTURES[name].shard_shape for name in released} == SHARD_SHAPES


def test_a_network_is_called_by_its_name_in_the_registry_and_takes_the_sizes_and_classes_of_its_row() -> None:
    for name, row in ARCHITECTURES.items():
        for size in row.image_sizes:
            network = architecture(name, 3, "relu", False, image_size=size)
            assert network.name == name, "give the Architecture the name of its row"
            assert (network.image_size, network.num_classes) == (size, max(10, row.least_outputs))
            assert isinstance(network, Architecture) == (row.fixed_activation is None)


def test_names_of_the_reference_stand_in_the_registry_and_nowhere_else_in_the_code() -> None:
    """An architecture is one row: storage names one again where no layer list can describe it."""
    naming = {str(path) for room in ("storage", "zoo_jobs", "cluster") for path in Path(room).rglob("*.py")
              if '"resnet18"' in path.read_text()}  # fmt: skip
    own = {"zoo_jobs/models/registry.py", "zoo_jobs/models/resnet18.py"}
    assert naming == own | {"storage/interchange/raw/architectures.py", "storage/views/module.py"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cnn-m"}, "unknown architecture 'cnn-m'; did you mean 'cnn-"),
        ({"activation": "tahn"}, "unknown activation 'tahn'; did you mean 'tanh'"),
        ({"image_size": 32}, "cnn-s takes 28 x 28 images, found 32"),
    ],
)
def test_an_impossible_network_is_refused_in_one_line(arguments: dict[str, object], message: str) -> None:
    good = {"name": "cnn-s", "in_channels": 1, "activation": "tanh", "dropout": False}
    with pytest.raises(InputError) as refusal:
        architecture(**(good | arguments))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_registry_imports_no_torch() -> None:
    code = "import sys, zooforge.zoo_jobs.models.registry; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0


def test_layout_offsets_follow_each_other_without_gaps() -> None:
    for name in ARCHITECTURES:
        entries = architecture(name, 3, "relu", False).layout.entries
        assert all(a.stop == b.offset for a, b in pairwise(entries))
