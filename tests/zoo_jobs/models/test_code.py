"""Code as a network: the facts from one run of it, its initial weights, and its refusals."""

import textwrap

import numpy as np
import pytest
import torch

from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.models.code_facts import examine
from zooforge.zoo_jobs.models.code_module import code_module
from zooforge.zoo_jobs.models.code_network import Code, CodeNetwork
from zooforge.zoo_jobs.models.initialize import initial_buffers, initial_weights
from zooforge.zoo_jobs.models.torch_module import state_dict, torch_module

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, in_channels, num_classes, hidden=6):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, hidden, 3, bias=False)
        self.norm = nn.BatchNorm2d(hidden)
        self.drop = nn.Dropout()
        self.gain = nn.Parameter(torch.randn(hidden, 1, 1))
        self.register_buffer("shift", torch.full((1, 2, 1, 1), 0.5))
        self.out = nn.Linear(hidden, num_classes)

    def forward(self, images):
        values = torch.relu(self.norm(self.conv(images))) * self.gain
        return self.out(self.drop(values.mean(dim=(2, 3)))) + self.shift.sum()
"""


def examined(text: str = NET, name: str = "Net", sizes: tuple[int, ...] = (4, 2)) -> CodeNetwork:
    return examine(Code(text, name), 1, 8, 3, sizes, where="net.py")


def changed(before: str, after: str) -> str:
    assert before in NET
    return NET.replace(before, after)


def test_the_facts_are_those_of_the_module() -> None:
    network = examined()
    assert [name for name, _ in network.parameters] == [
        "gain", "conv.weight", "norm.weight", "norm.bias", "out.weight", "out.bias",
    ]  # fmt: skip
    assert network.layout["conv.weight"].shape == (6, 1, 3, 3)
    assert network.buffers == (("shift", (1, 2, 1, 1)), ("norm.running_mean", (6,)), ("norm.running_var", (6,)))
    assert network.counter_names == ("norm.num_batches_tracked",)
    assert network.dropouts == (("drop", (6,)),)
    conv, out = 6 * 9 * 36, 6 * 3
    assert (network.num_macs, network.num_train_macs) == (conv + out, 2 * conv + 3 * out)
    assert network == examined()
    assert network.name == examined().name != examined(NET + "\n").name


def test_initial_weights_are_a_function_of_the_seed_and_leave_the_generator_alone() -> None:
    network = examined()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, again, other = (initial_weights(network, "normal", seed, scale=0.5, bias=0.25) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert one.tobytes() == again.tobytes() != other.tobytes()
    tensors, others = network.layout.unflatten(one), network.layout.unflatten(other)
    drawn = torch.nn.init.normal_(torch.empty(6, 1, 3, 3), generator=torch.Generator().manual_seed(1)) * 0.5
    assert np.array_equal(tensors["conv.weight"], drawn.numpy())
    assert set(tensors["out.bias"]) == {0.25}
    assert set(tensors["norm.weight"]) == {1.0}
    assert not np.array_equal(tensors["gain"], others["gain"])
    buffers = initial_buffers(network, 2)
    assert network.buffer_layout.unflatten(buffers["buffers"])["shift"].tolist() == [[[[[0.5]], [[0.5]]]]] * 2
    assert buffers["counters"].tolist() == [[0], [0]]
    module = torch_module(network)
    module.load_state_dict(state_dict(network, one, buffers["buffers"][0], buffers["counters"][0]), strict=True)


def test_a_network_without_buffers_has_no_such_arrays() -> None:
    text = "from torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self, image_size, num_classes):\n"
    text += "        super().__init__(nn.Flatten(), nn.Linear(image_size**2, num_classes))\n"
    network = examined(text)
    assert initial_buffers(network, 2) == {}
    assert network.layout.size == 64 * 3 + 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NET + "class Net(:\n", "net.py, line 19: invalid syntax"),
        (NET + "1 / 0\n", "net.py, line 19: ZeroDivisionError: division by zero"),
        (NET + "raise SystemExit\n", "net.py, line 19: SystemExit"),
        (changed("import torch\n", "import torch\nimport no_such_module\n"), "net.py, line 3: ModuleNotFoundError: "),
        (changed("class Net(", "class Nett("), "net.py: no class 'Net'; did you mean 'Nett'? it has Nett"),
        ("x = 1\nclass Net:\n    pass\n", "net.py, line 2: Net is no torch.nn.Module"),
        (changed("hidden=6", "hidden"), "line 6: Net needs 'hidden'; it may take in_channels, image_size, num"),
        (changed("self.gain\n", "self.gone\n"), "line 17: AttributeError: 'Net' object has no attribute 'gone'"),
        (changed("num_classes)\n\n", "4)\n\n"),
         "line 6: Net: forward gives torch.float32 [2, 4] for images [2, 1, 8, 8], expected torch.float32 [2, 3]"),
        (changed("return self.out", "return [1]\n        self.out"), "Net: forward returns list, expected a tensor"),
        (changed("+ self.shift", "+ torch.rand(()) + self.shift"), "Net: hidden randomness: two forward passes in"),
        (changed("self.drop(values.mean(dim=(2, 3)))", "nn.functional.dropout(self.drop(values.mean(dim=(2, 3))))"),
         "Net: hidden randomness: two forward passes in training mode do not agree"),
        (changed("self.drop(values", "(values"), "Net: dropout layer 'drop' is called never"),
        (changed("self.drop(values.mean(dim=(2, 3)))", "self.drop(self.drop(values.mean(dim=(2, 3))))"),
         "Net: dropout layer 'drop' is called 2 times in one pass; give every place a layer of its own"),
        (changed("self.drop(values.mean(dim=(2, 3)))", "self.drop(values.mean(dim=(2, 3)).T).T"),
         "Net: dropout layer 'drop' gets [6, 2], whose first axis is not the batch"),
        (changed("nn.Dropout()", "nn.Dropout2d()"), "layer 'drop' is Dropout2d; of the dropout layers only nn.Dropout"),
        (changed("nn.Dropout()", "nn.Dropout(0.1)"), "layer 'drop' has a ratio of its own, 0.1; write nn.Dropout()"),
        (changed(" * self.gain", ""), "Net: parameter 'gain' gets no gradient: forward does not use it"),
        (changed("torch.randn(hidden, 1, 1)", "torch.randn(hidden, 1, 1), requires_grad=False"),
         "Net: parameter 'gain' is not float32 with a gradient; make it a buffer"),
        (changed("nn.Parameter(torch.randn(hidden, 1, 1))", "self.norm.weight"),
         "Net: parameters 'gain' and 'norm.weight' are one tensor"),
        (changed("nn.Linear(hidden,", "nn.LazyLinear("), "Net: parameter 'out.weight' has no shape before the first"),
        (changed("torch.full((1, 2, 1, 1), 0.5)", "torch.rand(2)"), "Net: buffer 'shift' starts with random values"),
        (changed("torch.full((1, 2, 1, 1), 0.5)", "torch.ones(2).bool()"), "Net: buffer 'shift' is torch.bool [2]; "),
        (changed("return", "self.shift = self.shift + 1\n        return"),
         "Net: forward replaces buffer 'shift'; change it in place"),
        (changed("return", "self.shift.add_(1)\n        return"), "Net: an evaluation changes its buffers"),
        (changed('1, 1), 0.5))', '1, 1), 0.5), persistent=False)')
         .replace("return", "self.shift.add_(1)\n        return"),
         "Net: forward changes 'shift', which is no buffer of its state dict"),
        (changed("self.norm(", "(").replace("self.norm = nn.BatchNorm2d(hidden)", "self.norm = nn.BatchNorm1d(hidden)")
         .replace("values.mean(dim=(2, 3))", "self.norm(values.mean(dim=(2, 3)))"),
         "net.py, line 18: ValueError: Expected more than 1 value per channel when training"),
        (changed("torch.randn(hidden, 1, 1)", "torch.full((6, 1, 1), __import__('random').random())"),
         "Net: 'gain' starts with random values that torch's generator does not give"),
    ],
)  # fmt: skip
def test_code_that_cannot_be_trained_is_refused_in_one_line_with_its_place(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        examined(text, sizes=(4, 1))
    assert message in str(caught.value)
    assert str(caught.value).startswith("net.py")
    assert "\n" not in str(caught.value)


def test_output_of_the_code_does_not_reach_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    code_module(examined(changed("super().__init__()", "super().__init__(); print('hello')")))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hello" in captured.err


def test_dataclasses_and_annotations_of_the_code_work() -> None:
    more = "from __future__ import annotations\nfrom dataclasses import dataclass\n" + NET
    more += textwrap.dedent("""
        @dataclass
        class Settings:
            hidden: int = 6
    """)
    assert examined(more).layout == examined().layout
