"""Trains a small network of torch on states: seeded, standardised, and ended at the epoch that is best on val.

Shape suffixes: N = states, D = weights, K = outputs.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from zooforge.storage.views.standardize import Standardizer

from ..samples import Given
from .contract import Part, Predict, Problem

EPOCHS, PATIENCE = 60, 12  # training ends after so many epochs without a better one
BATCH, LEARNING_RATE, WEIGHT_DECAY = 32, 2e-3, 1e-3

Inputs = Callable[[NDArray[np.float32]], Tensor]
"""From standardised weights [N, D] to what the network takes, with N first."""


def train_network(problem: Problem, inputs: Inputs, build: Callable[[int, int], nn.Module]) -> Predict:
    """Fit a network by AdamW and one cycle of the learning rate.

    Args:
        build: from the numbers of history columns and outputs to a network that takes inputs and history.
    """
    torch.manual_seed(problem.seed)
    layout = problem.train.given.states.layout
    scaler = Standardizer.fit([problem.train.given.states.values], layout)
    truth = problem.train.truth
    is_regression = problem.kind == "regression"
    names = [] if is_regression else sorted(set(truth.tolist()))
    centre, scale = (float(truth.mean()), float(truth.std()) or 1.0) if is_regression else (0.0, 1.0)

    def given(part: Given) -> tuple[Tensor, Tensor]:
        return inputs(scaler.apply(part.states.values)), torch.from_numpy(part.history.astype(np.float32))

    def target(part: Part) -> Tensor:
        if is_regression:
            return torch.from_numpy(((part.truth - centre) / scale).astype(np.float32))
        place = {name: number for number, name in enumerate(names)}
        return torch.tensor([place.get(name, -1) for name in part.truth.tolist()])  # -1: not in training, ignored

    def loss(outputs: Tensor, wanted: Tensor) -> Tensor:
        if is_regression:
            return functional.mse_loss(outputs[:, 0], wanted)
        return functional.cross_entropy(outputs, wanted, ignore_index=-1)

    network = build(problem.train.given.history.shape[1], 1 if is_regression else len(names))
    _descend(
        network,
        given(problem.train.given),
        target(problem.train),
        given(problem.val.given),
        target(problem.val),
        loss,
        problem.seed,
    )

    @torch.no_grad()
    def predict(states: Given) -> NDArray[Any]:
        values = _outputs(network, *given(states)).double().numpy()
        return centre + scale * values[:, 0] if is_regression else np.array(names, object)[values.argmax(axis=1)]

    return predict


def _descend(
    network: nn.Module,
    train: tuple[Tensor, Tensor],
    wanted: Tensor,
    val: tuple[Tensor, Tensor],
    val_wanted: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    seed: int,
) -> None:
    """Train ``network`` in place; it ends with the weights of the epoch that is best on val."""
    order = torch.Generator().manual_seed(seed)
    steps = -(-len(wanted) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, epochs=EPOCHS, steps_per_epoch=steps)
    best, best_state, best_epoch = float("inf"), copy.deepcopy(network.state_dict()), 0
    for epoch in range(EPOCHS):
        network.train()
        for rows in torch.randperm(len(wanted), generator=order).split(BATCH):
            optimizer.zero_grad()
            loss(network(train[0][rows], train[1][rows]), wanted[rows]).backward()
            optimizer.step()
            rate.step()
        network.eval()
        with torch.no_grad():
            now = float(loss(_outputs(network, *val), val_wanted))
        if now < best:
            best, best_state, best_epoch = now, copy.deepcopy(network.state_dict()), epoch
        elif epoch - best_epoch >= PATIENCE:
            break
    network.load_state_dict(best_state)


def _outputs(network: nn.Module, inputs: Tensor, history: Tensor) -> Tensor:
    pieces = zip(inputs.split(BATCH), history.split(BATCH), strict=True)
    return torch.cat([network(*piece) for piece in pieces])
