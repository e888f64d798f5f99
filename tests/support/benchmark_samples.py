"""Invented samples for the benchmark: weights that contain the accuracy, and labels of a small grid."""

from typing import Any

import numpy as np

from zooforge.storage.formats.layout import Layout
from zooforge.storage.read.states import States
from zooforge.zoo_jobs.benchmark.samples import Given, Samples

LAYOUT = Layout.of(
    [("conv1.weight", (3, 1, 2, 2)), ("conv1.bias", (3,)), ("linear1.weight", (2, 12)), ("linear1.bias", (2,))]
)


def samples(num: int = 120, draw: int = 0, zoo: str = "made-up", noise: float = 0.1, **labels: Any) -> Samples:
    """Weights whose first tensor has the accuracy as its mean, and whose bias has the optimizer as its sign."""
    rng = np.random.default_rng(draw)
    accuracy, is_adam = rng.uniform(0.1, 0.95, num).round(2), rng.random(num) < 0.5
    weights = rng.normal(0, noise, (num, LAYOUT.size))
    weights[:, :12] += accuracy[:, None]
    weights[:, 12:15] += np.where(is_adam, 2.0, -2.0)[:, None]
    columns: dict[str, Any] = {
        "model": np.arange(num),
        "epoch": np.full(num, 4),
        "seed": np.arange(num),
        "test_acc": accuracy,
        "ggap": accuracy / 10,
        "optimizer": np.where(is_adam, "adam", "sgd").astype(object),
        "learning_rate": np.where(rng.random(num) < 0.5, 1e-3, 1e-2),
        "split": np.array(["train", "train", "train", "val", "test"] * (num // 5), object),
        **labels,
    }
    none = np.full(num, -1, np.int32)
    known = {name: columns[name] for name in ("optimizer", "learning_rate")}
    roots = np.array([f"{zoo}/{model}" for model in columns["model"].tolist()], object)
    given = Given(States(weights.astype(np.float32), none, none, LAYOUT), known, np.zeros((num, 0)))
    return Samples(zoo, given, columns, roots, roots, {})
