"""The order in which a stream gives states: shuffled, the same for equal seeds, read in large pieces. Pure numpy.

The samples of an epoch of training are cut into chunks: the states of one block of models at a few neighbouring
epochs, which one ranged read or two give. Chunks are put in random order, as many as fit a buffer make a window, and
the samples of a window are put in random order. So the order is a function of (seed, pass, buffer size), and worker w
of W takes windows w, w + W, ...: the samples of a pass are the same set for any number of workers, and those of one
window come in the same order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EpochNotPresent

Indices = NDArray[np.intp]

ORDER_OF_CHUNKS, ORDER_IN_WINDOW, PERMUTE = 1, 2, 3  # purposes: what a generator is for


@dataclass(frozen=True)
class Samples:
    """Chunk by chunk: ``models``, ``epochs`` and ``targets`` (epochs) [N], and where each chunk begins [C + 1]."""

    models: NDArray[np.int64]
    epochs: NDArray[np.int64]
    targets: NDArray[np.int64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.models)

    def wanted(self, rows: Indices) -> dict[int, list[int]]:
        """Epoch to ascending models of all states that the samples ``rows`` need."""
        found = {}
        epochs = np.concatenate([self.epochs[rows], self.targets[rows]])
        models = np.concatenate([self.models[rows], self.models[rows]])
        for epoch in np.unique(epochs).tolist():
            here: list[int] = np.unique(models[epochs == epoch]).tolist()
            found[epoch] = here
        return found

    def windows(self, state_bytes: int, buffer_bytes: int, seed: int, number: int, shuffle: bool) -> list[Indices]:
        """Samples of pass ``number``, window by window, in the order to give them."""
        chunks = np.arange(len(self.starts) - 1)
        if shuffle:
            chunks = np.argsort(_words([seed, number, ORDER_OF_CHUNKS], len(chunks)), kind="stable")
        windows: list[Indices] = []
        held: list[Indices] = []
        size = 0
        sequence = 2 if len(self) and (self.epochs != self.targets).any() else 1
        for chunk in chunks:
            rows = np.arange(self.starts[chunk], self.starts[chunk + 1])
            cost = len(rows) * state_bytes * sequence
            if held and size + cost > buffer_bytes:
                windows.append(np.concatenate(held))
                held, size = [], 0
            held.append(rows)
            size += cost
        if held:
            windows.append(np.concatenate(held))
        if not shuffle:
            return windows
        return [
            rows[np.argsort(_words([seed, number, ORDER_IN_WINDOW, place], len(rows)), kind="stable")]
            for place, rows in enumerate(windows)
        ]


def samples_of(
    wanted: dict[int, list[int]], task: str, block_models: int, block_epochs: int, chunk_epochs: int
) -> Samples:
    """Samples of the wanted states (epoch to models).

    Args:
        task: ``reconstruction``: a state is its own target; ``sequence``: the same model's next wanted epoch is, and a
            model's last epoch is no input.
        block_models, block_epochs: shape of a shard.
        chunk_epochs: how many neighbouring wanted epochs of a shard one chunk has.

    Raises:
        EpochNotPresent: a sequence of fewer than two epochs.
    """
    epochs = np.concatenate([np.full(len(m), e, np.int64) for e, m in wanted.items()] or [np.zeros(0, np.int64)])
    models = np.concatenate([np.asarray(m, np.int64) for m in wanted.values()] or [np.zeros(0, np.int64)])
    order = np.lexsort((epochs, models))
    models, epochs = models[order], epochs[order]
    inputs, follows = pairs(models, task)
    targets = epochs[follows]
    models, epochs = models[inputs], epochs[inputs]
    # A chunk never crosses a shard, and its epochs are neighbours among those that are wanted.
    number = np.searchsorted(np.unique(epochs), epochs)
    shard = epochs // block_epochs
    first_of_shard = np.searchsorted(np.unique(epochs), shard * block_epochs)
    keys = np.stack([models // block_models, shard, (number - first_of_shard) // chunk_epochs], axis=1)
    order = np.lexsort((epochs, models, keys[:, 2], keys[:, 1], keys[:, 0]))
    keys = keys[order]
    changes = np.flatnonzero((keys[1:] != keys[:-1]).any(axis=1)) + 1
    starts = np.concatenate(([0], changes, [len(keys)])) if len(keys) else np.zeros(1, np.int64)
    return Samples(models[order], epochs[order], targets[order], starts.astype(np.int64))


def pairs(models: NDArray[Any], task: str) -> tuple[Indices, Indices]:
    """Rows of inputs and of their targets, of states in model-major order. Raises as ``samples_of`` does."""
    rows = np.arange(len(models))
    if task == "reconstruction":
        return rows, rows
    follows = np.flatnonzero(models[:-1] == models[1:]) if len(models) else rows
    if len(models) and not len(follows):
        raise EpochNotPresent("task `sequence` needs two epochs of a model; select more epochs")
    return follows, follows + 1


def _words(seed: Sequence[int], count: int) -> NDArray[np.uint64]:
    words: NDArray[np.uint64] = np.random.Philox(np.random.SeedSequence(list(seed))).random_raw(count)
    return words
