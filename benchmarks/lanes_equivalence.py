"""Tests that `lanes` trains as well as plain PyTorch does: paired accuracies on real digits.

    python benchmarks/lanes_equivalence.py [--models 64] [--epochs 6]

The same models of mnist5k-cnn-s (same initial weights, batch orders and dropout masks) with `lanes` and `sequential`;
roundings differ, so trajectories part in time. Reported per epoch: mean paired difference of the test accuracy with its
90 % interval. Equivalent if the interval lies within +-MARGIN (two one-sided tests at 5 %).

Last result: docs/performance.md.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zooforge.zoo_jobs.catalogue.entries import load as load_spec
from zooforge.zoo_jobs.data.prepare import load
from zooforge.zoo_jobs.engines.choose import make_engine
from zooforge.zoo_jobs.engines.contract import Engine, initial_state
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.models.initialize import initial_weights
from zooforge.zoo_jobs.running.inputs import Run

MARGIN = 0.005  # of accuracy: 2.5 of the 500 test images


def accuracies(engine: Engine, run: Run, models: int, epochs: int, cache: Path) -> NDArray[np.float64]:
    """[models, epochs] on the test split."""
    data = load(run.zoo.root, cache)
    accuracies = np.empty((models, epochs))
    families = defaultdict(list)
    for model in range(models):
        families[run.rows[model].family].append(model)
    for family, members in families.items():
        program = run.program(family)
        weights = [initial_weights(program.architecture, run.rows[m].initializer, run.rows[m].seed) for m in members]
        state = initial_state(program, np.stack(weights))
        with engine.open(program, run.hyperparameters(members), state, data) as session:
            for epoch in range(1, epochs + 1):
                session.train_epoch(epoch, np.ones(len(members), np.bool_))
                result = session.evaluate("test")
                accuracies[members, epoch - 1] = result.correct_P / result.num_samples_P
    return accuracies


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--cache", type=Path, default=Path(".zooforge/data"))
    options = parser.parse_args()
    run = Run(load_spec("mnist5k-cnn-s"))
    of: dict[str, Any] = {"run": run, "models": options.models, "epochs": options.epochs, "cache": options.cache}
    lanes = accuracies(make_engine("lanes"), **of)
    plain = accuracies(SequentialEngine(), **of)
    for epoch in range(options.epochs):
        difference = lanes[:, epoch] - plain[:, epoch]
        half = 1.645 * difference.std(ddof=1) / np.sqrt(len(difference))
        low, high = difference.mean() - half, difference.mean() + half
        verdict = "equivalent" if low > -MARGIN and high < MARGIN else "not shown to be equivalent"
        means = f"lanes {lanes[:, epoch].mean():.4f}, plain {plain[:, epoch].mean():.4f}"
        print(f"epoch {epoch + 1}: {means}, difference [{low:+.5f}, {high:+.5f}]: {verdict} within {MARGIN}")


if __name__ == "__main__":
    main()
