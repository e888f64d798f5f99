"""Specs for tests: a zoo of the catalogue to be changed, and random small grids of every kind for property tests."""

import json
from typing import Any

from hypothesis import strategies as st

from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.spec.zoo import ZooSpec

GOOD = entries.load("mnist5k-cnn-s")
ACTIVATIONS = ["leaky_relu", "relu", "tanh", "sigmoid", "silu", "gelu"]
OPTIMIZERS = ["sgd", "adam", "rmsprop"]
INITIALIZERS = ["uniform", "normal", "kaiming_uniform"]


def changed(**fields: Any) -> dict[str, Any]:
    """The JSON of ``GOOD`` with other ``fields``."""
    value: dict[str, Any] = json.loads(json.dumps(GOOD.to_json() | fields))
    return value


def subset(values: list[Any], max_size: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=max_size, unique=True)


@st.composite
def specs(draw: st.DrawFn, *, random_seeds: bool | None = None) -> ZooSpec:
    """A zoo on mnist5k of at most a few hundred models; appended values are new, so no model is repeated."""
    is_random = draw(st.booleans()) if random_seeds is None else random_seeds
    num_seeds = draw(st.integers(1, 4))
    first = draw(st.integers(0, 1000))
    value: dict[str, Any] = {
        "name": "random-zoo",
        "description": "A zoo of a test.",
        "source": "hypothesis",
        "origin": "ours",
        "dataset": "mnist5k",
        "preprocessing": {"mean": [0.1307], "std": [0.3081]},
        "split": {"train": 4000, "val": 500, "test": 500, "seed": 42},
        "architecture": draw(st.sampled_from(["cnn-s", "cnn2"])),
        "axes": {
            "activation": draw(subset(ACTIVATIONS[:4])),
            "dropout_ratio": draw(subset([0.0, 0.3, 0.5])),
            "initializer": draw(subset(INITIALIZERS)),
            "optimizer": draw(subset(OPTIMIZERS)),
            "learning_rate": draw(subset([0.1, 0.01, 1e-3], 2)),
            "weight_decay": draw(subset([0.0, 1e-3], 2)),
        },
        "seeds": "random" if is_random else f"{first}:{first + num_seeds}",
        "momentum": draw(st.sampled_from([0.0, 0.9])),
        "batch_size": draw(st.integers(1, 4000)),
        "num_epochs": draw(st.integers(1, 60)),
        "sparsify": {"method": "variational-dropout"},
    }
    if is_random:
        value |= {"seeds_per_cell": num_seeds, "seed_salt": draw(st.integers(0, 5))}
    return ZooSpec.from_json(value)


BLOCKS: list[dict[str, Any]] = [
    {"activation": ["silu", "gelu"]},
    {"dropout_ratio": [0.9, 0.0], "weight_decay": [0.7]},
    {"learning_rate": [0.2]},
    {"optimizer": ["adam"], "learning_rate": [0.05, 0.07], "activation": ["tanh"]},
]
"""Blocks that repeat no model of ``specs``, nor of each other."""


@st.composite
def extensions(draw: st.DrawFn, spec: ZooSpec) -> ZooSpec:
    """``spec`` with blocks appended."""
    blocks = [dict(BLOCKS[number]) for number in draw(subset(list(range(len(BLOCKS)))))]
    for block in blocks:
        if spec.seeds.values is None and draw(st.booleans()):
            block["seeds_per_cell"] = draw(st.integers(1, 3))
    if spec.seeds.values is not None and draw(st.booleans()):
        blocks.append({"seeds": "5000:5002"})
    return ZooSpec.from_json(spec.to_json() | {"extend": blocks})
