"""Checks that nothing of the test set reaches a method before it predicts. Pure.

Shape suffix: N = states.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .samples import Given, Samples, keys_of


class Leak(InputError):
    """Something of the test set would reach a method."""


def check_roots(roots: NDArray[Any], splits: NDArray[Any], zoo: str) -> None:
    """Raises Leak: states of one root [N] are in two splits [N]."""
    split_of: dict[str, str] = {}
    for root, split in zip(roots.tolist(), splits.tolist(), strict=True):
        if split_of.setdefault(root, split) != split:
            raise Leak(
                f"{zoo}: models that descend from {root} are in the splits {split_of[root]} and {split}, so that a "
                "prediction could be remembered; `--splits drawn` keeps them together"
            )


def siblings(samples: Samples, splits: NDArray[Any]) -> dict[str, int]:
    """Numbers of test states with a relative in train: the same seed, the same cell of the grid, equal weights.

    They are no error, because zoos are grids of seeds and cells. The report shows them for readers of the figures.
    """
    weights = [blake2b(row.tobytes(), digest_size=16).digest() for row in samples.given.states.values]
    train, test = splits == "train", splits == "test"
    counts = {}
    for name, keys in (
        ("seed", keys_of(samples.labels, "seed")),
        ("cell", keys_of(samples.labels, "cell")),
        ("weights", weights),
    ):
        in_train = {key for key, here in zip(keys, train, strict=True) if here}
        counts[name] = sum(count for key, count in Counter(_chosen(keys, test)).items() if key in in_train)
    return counts


def _chosen(keys: list[Any], here: NDArray[np.bool_]) -> list[Any]:
    return [key for key, one in zip(keys, here, strict=True) if one]


def check_one_by_one(
    predict: Callable[[Given], NDArray[Any]], given: Given, predicted: NDArray[Any], method: str
) -> None:
    """Check that the predictions for half of the test states do not depend on the other half.

    A method that standardises or filters by the states that it predicts would use the test set.

    Raises:
        Leak: the predictions depend on the other half.
    """
    half = np.arange(0, len(given), 2)
    again, before = np.asarray(predict(given[half])), predicted[half]
    if before.dtype.kind == "f":
        scale = max(float(np.abs(before).max(initial=0.0)), 1e-12)
        equal = again.shape == before.shape and bool(np.allclose(again, before, rtol=1e-3, atol=1e-3 * scale))
    else:
        equal = again.tolist() == before.tolist()
    if not equal:
        raise Leak(
            f"method {method}: its prediction for a state changes with the other states that it is given, so it learns "
            "from the test set; fit scales and filters on the training states"
        )


def summary(counts: Mapping[str, int], num_test: int) -> str:
    """A sentence about ``siblings``."""
    parts = [
        f"{counts[name]:,} {words}"
        for name, words in (
            ("seed", "share their seed"),
            ("cell", "share their cell"),
            ("weights", "have equal weights"),
        )
    ]
    return f"of {num_test:,} test states, {', '.join(parts)} with a training state"
