"""The order in which a stream gives states: shuffled, the same for equal seeds, read in large pieces. Pure numpy.

The samples are cut into chunks: the states of one block of models at a few neighbouring epochs, which take one or two
ranged reads. The chunks are put in random order, as many as fit into a buffer form a window, and the samples of a
window are put in random order. So the order is a function of (seed, pass, buffer size). Worker w of W takes the windows
w, w + W, ...: the samples of a pass are the same set for any number of workers, and those of one window come in the
same order. Without shuffling, chunks are given by ascending model and epoch, whatever the order of the selection.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import EpochNotPresent
from ..read.selection import Selection

Indices = NDArray[np.intp]

ORDER_OF_CHUNKS, ORDER_IN_WINDOW, PERMUTE = 1, 2, 3  # purposes of random generators


@dataclass(frozen=True, eq=False)
class Samples:
    """N samples, chunk by chunk: ``models``, ``epochs`` and ``targets`` (epochs too), each [N].

    ``starts`` [C + 1] says where each chunk begins, and where the last one ends.
    """

    models: NDArray[np.int64]
    epochs: NDArray[np.int64]
    targets: NDArray[np.int64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.models)

    def states(self, rows: Indices) -> Selection:
        """Inputs and targets of the samples ``rows``, each state once, by ascending model and epoch."""
        epochs = np.concatenate([self.epochs[rows], self.targets[rows]])
        keys = np.unique(np.concatenate([self.models[rows], self.models[rows]]) << 32 | epochs)
        return Selection(keys >> 32, keys & 0xFFFFFFFF)

    def windows(self, state_bytes: int, buffer_bytes: int, seed: int, number: int, shuffle: bool) -> list[Indices]:
        """Rows of the samples of pass ``number``, window by window, in the order in which they are given."""
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


def samples_of(selection: Selection, task: str, block_models: int, block_epochs: int, chunk_epochs: int) -> Samples:
    """Samples of the selected states, chunk by chunk; a state that is selected twice gives two samples.

    Args:
        task: ``reconstruction``: a state is its own target; ``sequence``: see ``pairs``.
        block_models, block_epochs: shape of a shard.
        chunk_epochs: how many neighbouring selected epochs of a shard one chunk has.

    Raises:
        EpochNotPresent: a sequence of fewer than two epochs.
    """
    inputs, follows = pairs(selection, task)
    targets = selection.epochs[follows]
    models, epochs = selection.models[inputs], selection.epochs[inputs]
    # A chunk never crosses a shard, and its epochs are neighbours among those that are wanted.
    number = np.searchsorted(np.unique(epochs), epochs)
    shard = epochs // block_epochs
    first_of_shard = np.searchsorted(np.unique(epochs), shard * block_epochs)
    keys = np.stack([models // block_models, shard, (number - first_of_shard) // chunk_epochs], axis=1)
    order = np.lexsort((targets, epochs, models, keys[:, 2], keys[:, 1], keys[:, 0]))
    keys = keys[order]
    changes = np.flatnonzero((keys[1:] != keys[:-1]).any(axis=1)) + 1
    starts = np.concatenate(([0], changes, [len(keys)])) if len(keys) else np.zeros(1, np.int64)
    return Samples(models[order], epochs[order], targets[order], starts.astype(np.int64))


def pairs(selection: Selection, task: str) -> tuple[Indices, Indices]:
    """Rows of inputs and of their targets in ``selection``, inputs in its order.

    For ``sequence`` the target is the next later selected epoch of the same model, and a model's last one is no input.
    Raises EpochNotPresent where that leaves no input.
    """
    keys = selection.keys
    if task == "reconstruction":
        return np.arange(len(keys)), np.arange(len(keys))
    states, first = np.unique(keys, return_index=True)
    following = np.append(states[1:], -1)[: len(states)]
    has_target = following >> 32 == states >> 32
    place = np.searchsorted(states, keys)
    inputs = np.flatnonzero(has_target[place])
    if len(keys) and not len(inputs):
        raise EpochNotPresent("task `sequence` needs two epochs of a model; select more epochs")
    return inputs, np.append(first[1:], 0)[place[inputs]]


def _words(seed: Sequence[int], count: int) -> NDArray[np.uint64]:
    words: NDArray[np.uint64] = np.random.Philox(np.random.SeedSequence(list(seed))).random_raw(count)
    return words
