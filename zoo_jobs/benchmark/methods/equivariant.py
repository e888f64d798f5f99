"""A small network on weights whose prediction does not change when hidden units are permuted.

Each weight between two units is an edge with ``WIDTH`` features. A round adds to each edge a function of its two
units, and to each unit one of the means of its edges. Edges of one layer of the zoo's networks share their functions;
the values of a kernel are features of its edge.

Shape suffixes: N = states, O = outputs, I = inputs, K = values of a kernel, H = features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from zooforge.storage.errors import StorageUsageError
from zooforge.storage.formats.layout import Entry, Layout
from zooforge.storage.views.nfn import layers_of

from .contract import Predict, Problem, Unfit
from .training import train_network

WIDTH, ROUNDS = 16, 2


@dataclass(frozen=True, slots=True)
class Block:
    """The places of a layer's weight and bias in a vector, and how many units and values each output reads."""

    weight: Entry
    bias: Entry
    inputs: int
    values: int


def fit(problem: Problem) -> Predict:
    """Raises Unfit: the networks of the zoo are no chain of convolutions and linear layers with biases."""
    blocks = blocks_of(problem.train.given.states.layout)
    return train_network(problem, torch.from_numpy, lambda history, outputs: Equivariant(blocks, history, outputs))


def blocks_of(layout: Layout) -> list[Block]:
    """The layers of a chain of layers. Raises Unfit for other networks."""
    try:
        pairs = layers_of(layout, "the equivariant net")
    except StorageUsageError as error:
        raise Unfit(str(error)) from None
    units = [pairs[0][0].shape[1], *(weight.shape[0] for weight, _ in pairs)]
    return [
        Block(weight, bias, inputs, math.prod(weight.shape[1:]) // inputs)
        for (weight, bias), inputs in zip(pairs, units, strict=False)
    ]


class Equivariant(nn.Module):
    """From standardised weights [N, D] to outputs [N, K]."""

    def __init__(self, blocks: Sequence[Block], num_history: int, num_outputs: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.edges = nn.ModuleList([nn.Linear(block.values, WIDTH) for block in blocks])
        self.biases = nn.ModuleList([nn.Linear(1, WIDTH) for _ in blocks])
        self.rounds = nn.ModuleList([Round(len(blocks)) for _ in range(ROUNDS)])
        pooled = 2 * WIDTH * len(blocks) + num_history
        self.head = nn.Sequential(nn.Linear(pooled, 64), nn.ReLU(), nn.Linear(64, num_outputs))

    def forward(self, vectors: Tensor, history: Tensor) -> Tensor:
        edges, nodes = [], [vectors.new_zeros(len(vectors), self.blocks[0].inputs, WIDTH)]
        for block, edge, bias in zip(self.blocks, self.edges, self.biases, strict=True):
            shape = (len(vectors), block.weight.shape[0], block.inputs, block.values)
            edges.append(edge(vectors[:, block.weight.offset : block.weight.stop].reshape(shape)))
            nodes.append(bias(vectors[:, block.bias.offset : block.bias.stop, None]))
        for one in self.rounds:
            edges, nodes = one(edges, nodes)
        parts = [edge.mean(dim=(1, 2)) for edge in edges] + [node.mean(dim=1) for node in nodes[1:]]
        outputs: Tensor = self.head(torch.cat([*parts, history], dim=1))
        return outputs


class Round(nn.Module):
    """One update: edges [N, O, I, H] read the nodes at both ends, then nodes [N, units, H] read their edges."""

    def __init__(self, num_blocks: int) -> None:
        super().__init__()

        def functions(count: int) -> nn.ModuleList:
            return nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(count)])

        self.own, self.source, self.target = (functions(num_blocks) for _ in range(3))
        self.node, self.incoming, self.outgoing = (functions(num_blocks + 1) for _ in range(3))

    def forward(self, edges: list[Tensor], nodes: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        edges = [
            edge + torch.relu(own(edge) + source(before)[:, None] + target(after)[:, :, None])
            for edge, own, source, target, (before, after) in zip(
                edges, self.own, self.source, self.target, pairwise(nodes), strict=True
            )
        ]
        heard = [node(values) for node, values in zip(self.node, nodes, strict=True)]
        for place, edge in enumerate(edges):
            heard[place + 1] = heard[place + 1] + self.incoming[place](edge.mean(dim=2))
            heard[place] = heard[place] + self.outgoing[place](edge.mean(dim=1))
        return edges, [values + torch.relu(one) for values, one in zip(nodes, heard, strict=True)]
