"""A transformer on the tokens of a network, one for each output channel, as the SANE line of work reads weights.

Shape suffixes: N = states, T = tokens, S = values of a token.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zooforge.storage.views.tokens import token_places, tokenize

from .contract import Predict, Problem
from .training import train_network

WIDTH, HEADS, LAYERS = 64, 4, 2


def fit(problem: Problem) -> Predict:
    layout = problem.train.given.states.layout
    places, positions = token_places(layout)

    def inputs(values: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(tokenize(values, layout).values)

    return train_network(
        problem, inputs, lambda history, outputs: Transformer(places.shape[1], positions, history, outputs)
    )


class Transformer(nn.Module):
    """From tokens [N, T, S] to outputs [N, K]. A token is told from others by its place and its layer."""

    layers: Tensor

    def __init__(self, size: int, positions: NDArray[np.int32], num_history: int, num_outputs: int) -> None:
        super().__init__()
        self.register_buffer("layers", torch.from_numpy(positions[:, 1].astype(np.int64)))
        self.embed = nn.Linear(size, WIDTH)
        self.place = nn.Parameter(0.02 * torch.randn(len(positions), WIDTH))
        self.layer = nn.Embedding(int(positions[:, 1].max()) + 1, WIDTH)
        block = nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(block, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.head = nn.Sequential(nn.Linear(WIDTH + num_history, 64), nn.ReLU(), nn.Linear(64, num_outputs))

    def forward(self, tokens: Tensor, history: Tensor) -> Tensor:
        encoded = self.encoder(self.embed(tokens) + self.place + self.layer(self.layers))
        outputs: Tensor = self.head(torch.cat([encoded.mean(dim=1), history], dim=1))
        return outputs
