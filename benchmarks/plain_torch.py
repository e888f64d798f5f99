"""The plain PyTorch way: one model per process, one thread, a module, an optimizer and a loop, as the reference trains.

As a script it is a worker: it reads one JSON request per line and answers with the CPU seconds that it took, so that
one process can be timed in turns with something else.
"""

import json
import math
import subprocess
import sys
import time
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.models.layers import (
    Activation,
    Architecture,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
)
from zooforge.zoo_jobs.models.registry import architecture

ACTIVATIONS = {
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


class NoisyLayer(nn.Module):
    """A layer with variational dropout by local reparameterisation, written as one writes it in torch.

    As in the model zoos, the biases of convolutions are noisy too (variance, mask and KL term of their own); those of
    linear layers are plain.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        assert layer.bias is not None
        self.weight, self.bias = layer.weight, layer.bias
        convolution = isinstance(layer, nn.Conv2d)
        self.apply_to = F.conv2d if convolution else F.linear
        self.limit = 8.0 if convolution else 10.0
        self.log_sigma2 = nn.Parameter(torch.full_like(layer.weight, -10.0))
        self.log_sigma2_bias = nn.Parameter(torch.full_like(layer.bias, -10.0)) if convolution else None

    def log_alpha(self) -> tuple[Tensor, Tensor | None]:
        """log alpha of the weight and, if the bias is noisy, of the bias."""

        def clamped(value: Tensor, log_sigma2: Tensor) -> Tensor:
            return torch.clamp(log_sigma2 - 2 * torch.log(value.abs() + 1e-15), -self.limit, self.limit)

        of_bias = None if self.log_sigma2_bias is None else clamped(self.bias, self.log_sigma2_bias)
        return clamped(self.weight, self.log_sigma2), of_bias

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.log_alpha()
        if not self.training:
            return self.apply_to(x, self.weight * (weight < 3), self.bias if bias is None else self.bias * (bias < 3))
        variances = weight.exp() * self.weight**2, None if bias is None else bias.exp() * self.bias**2
        variance = self.apply_to(x * x, *variances)
        return self.apply_to(x, self.weight, self.bias) + torch.sqrt(variance + 1e-15) * torch.randn_like(variance)

    def kl(self) -> Tensor:
        return torch.stack([kl(each) for each in self.log_alpha() if each is not None]).sum()


def kl(log_alpha: Tensor) -> Tensor:
    """Sum of the KL terms (Molchanov et al. 2017)."""
    return -(
        0.63576 * torch.sigmoid(1.87320 + 1.48695 * log_alpha) - 0.5 * torch.log1p(torch.exp(-log_alpha)) - 0.63576
    ).sum()


class GlobalMean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def module(network: Architecture, twins: bool, dropout: float = 0.5) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer in network.layers:
        match layer:
            case Conv2d(in_channels=c, out_channels=o, kernel_size=k, stride=stride, padding=padding):
                convolution = nn.Conv2d(c, o, k, stride, padding)
                layers.append(NoisyLayer(convolution) if twins else convolution)
            case Linear(in_features=i, out_features=o):
                linear = nn.Linear(i, o)
                layers.append(NoisyLayer(linear) if twins else linear)
            case MaxPool2d():
                layers.append(nn.MaxPool2d(2))
            case Activation(name=name):
                layers.append(ACTIVATIONS[name]())
            case GlobalAvgPool2d():
                layers.append(GlobalMean())
            case Dropout():
                layers.append(nn.Dropout(dropout))
            case Flatten():
                layers.append(nn.Flatten())
    return nn.Sequential(*layers)


def train(request: dict[str, Any]) -> float:
    """CPU seconds per step of ``steps`` steps. A ``zoo`` of the catalogue has its own layer list, with dropout."""
    activation, batch_size = request.get("activation", "tanh"), request.get("batch", 10)
    if "zoo" in request:
        network = entries.load(request["zoo"]).network(activation, dropout=True)
    else:
        network = architecture(request["architecture"], request["channels"], activation, False)
    assert isinstance(network, Architecture)
    model = module(network, request["twins"], dropout=0.35).train()
    optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)
    if request["optimizer"] == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), lr=3e-4, momentum=0.9)
    elif request["optimizer"] == "rmsprop":
        optimizer = torch.optim.RMSprop(model.parameters(), lr=3e-4)
    num_rows = 4 * batch_size if "zoo" in request else 2000
    images = torch.randn(num_rows, network.in_channels, network.image_size, network.image_size)
    labels = torch.randint(0, 10, (num_rows,))
    start, steps, loss_sum, correct = time.process_time(), 0, 0.0, 0
    while steps < request["steps"]:
        order = torch.randperm(num_rows)
        for rows in order.split(batch_size):
            batch, target = images[rows], labels[rows]
            optimizer.zero_grad()
            output = model(batch)
            loss = F.cross_entropy(output, target)
            total = loss
            if request["twins"]:
                total = loss + 4e-4 * sum(m.kl() for m in model if isinstance(m, NoisyLayer))
            total.backward()
            optimizer.step()
            loss_sum += loss.item() * len(rows)
            correct += int((output.argmax(1) == target).sum())
            steps += 1
            if steps == request["steps"]:
                break
    return (time.process_time() - start) / steps


def evaluate(request: dict[str, Any]) -> float:
    """CPU seconds per image of 10,000 images in batches of ``batch``."""
    network = architecture(request["architecture"], request["channels"], "tanh", False)
    assert isinstance(network, Architecture)
    model = module(network, False).eval()
    images = torch.randn(10_000, network.in_channels, network.image_size, network.image_size)
    labels = torch.randint(0, 10, (10_000,))
    start = time.process_time()
    with torch.no_grad():
        for batch, target in zip(images.split(request["batch"]), labels.split(request["batch"]), strict=True):
            output = model(batch)
            _ = F.cross_entropy(output, target, reduction="sum").item(), int((output.argmax(1) == target).sum())
    return (time.process_time() - start) / 10_000


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(30 * x)


def fit(request: dict[str, Any]) -> float:
    """CPU seconds per step of ``steps`` steps that fit a sine network to one image; a step takes all its pixels."""
    side = request["side"]
    model = nn.Sequential(nn.Linear(2, 32), Sine(), nn.Linear(32, 32), Sine(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    axis = torch.linspace(-1, 1, side)
    coordinates = torch.cartesian_prod(axis, axis)
    pixels = torch.rand(side * side, 1)
    start, loss_sum = time.process_time(), torch.zeros(())
    for _ in range(request["steps"]):
        optimizer.zero_grad()
        loss = F.mse_loss(model(coordinates), pixels)
        loss.backward()
        optimizer.step()
        loss_sum += loss.detach()
    seconds: float = (time.process_time() - start) / request["steps"]
    return seconds


class Workers:
    """``count`` such processes; every request runs in all of them at the same time."""

    def __init__(self, count: int) -> None:
        command = [sys.executable, __file__]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
        ]

    def ask(self, **request: Any) -> float:
        """Mean over the processes."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        answers = []
        for process in self._processes:
            assert process.stdout is not None
            answers.append(float(process.stdout.readline()))
        return math.fsum(answers) / len(answers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


if __name__ == "__main__":
    torch.set_num_threads(1)
    do = {"train": train, "evaluate": evaluate, "fit": fit}
    for line in sys.stdin:
        asked = json.loads(line)
        print(do[asked["do"]](asked), flush=True)
