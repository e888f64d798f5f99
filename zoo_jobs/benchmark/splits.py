"""Train, validation and test sets of a benchmark. Pure.

Shape suffix: N = states.
"""

from collections import defaultdict
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.formats.splits import SPLITS, SplitRule, position

from ..errors import InputError
from .samples import Samples

SplitKind = Literal["drawn", "recorded"]
LEAST_GROUPS = 10  # so that each split has a model


def split(samples: Samples, kind: SplitKind, seed: int) -> NDArray[Any]:
    """[N] of train, val, test: drawn by ``seed``, or as the zoo records it.

    Raises:
        InputError: too few models, or a recorded split that has none.
    """
    return draw(samples.groups, seed, samples.zoo) if kind == "drawn" else recorded(samples)


def draw(groups: NDArray[Any], seed: int, zoo: str) -> NDArray[Any]:
    """[N] splits that keep equal ``groups`` [N] together.

    The groups of each root zoo (what stands before the first ``/``) are put in the order of a hash of their name and
    ``seed``; the first 70 % are train, the next 15 % val, the others test. Zoos of one root zoo are split alike if
    their groups are passed together.

    Raises:
        InputError: a root zoo has fewer than ``LEAST_GROUPS`` groups.
    """
    by_zoo: dict[str, set[str]] = defaultdict(set)
    for name in groups.tolist():
        by_zoo[name.partition("/")[0]].add(name)
    if not by_zoo:
        raise InputError(f"{zoo}: no model is left to split; at least {LEAST_GROUPS} are needed")
    rule = SplitRule(seed=seed)
    splits = {}
    for root_zoo, names in by_zoo.items():
        if len(names) < LEAST_GROUPS:
            raise InputError(
                f"{zoo}: {len(names)} models that are split apart, at least {LEAST_GROUPS} are needed; grow more of "
                "them, or leave fewer out"
            )
        order = sorted(names, key=lambda name: position(rule, root_zoo, name))
        first, second = round(0.7 * len(order)), round(0.85 * len(order))
        for place, name in enumerate(order):
            splits[name] = "train" if place < first else "val" if place < second else "test"
    return np.array([splits[name] for name in groups.tolist()], object)


def recorded(samples: Samples) -> NDArray[Any]:
    """[N]: the splits that the zoo was published with. Raises InputError: one of them is empty."""
    splits = samples.labels["split"]
    for name in SPLITS:
        if name not in splits:
            raise InputError(
                f"{samples.zoo}: no usable model in its {name} split; `--splits drawn` draws one, or grow more models"
            )
    return np.asarray(splits, object)
