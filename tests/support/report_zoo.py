"""Invented zoos for the report: plausible curves from a formula, equal in every call."""

import itertools
from typing import Any

import numpy as np

from zooforge.zoo_jobs.report.contents import Contents, ZooFacts
from zooforge.zoo_jobs.report.population import Population, population
from zooforge.zoo_jobs.report.weight_map import StateSample, weight_map

AXES: dict[str, tuple[Any, ...]] = {
    "dropout_ratio": (0.0, 0.5),
    "initializer": ("uniform", "normal", "kaiming_uniform", "kaiming_normal"),
    "activation": ("tanh", "relu", "sigmoid", "gelu"),
    "learning_rate": (0.001, 0.0001),
    "optimizer": ("adam", "sgd"),
    "weight_decay": (0.001, 0.0001),
}
NUM_TEST = 500


def grid(num_models: int) -> list[dict[str, Any]]:
    names = list(AXES)
    cells = [
        dict(zip(reversed(names), cell, strict=True)) for cell in itertools.product(*(AXES[n] for n in reversed(names)))
    ]
    return [{**cells[m % len(cells)], "seed": 1 + m // len(cells)} for m in range(num_models)]


def label_columns(
    num_models: int = 64, num_epochs: int = 6, faulty: dict[int, tuple[int, str]] | None = None, twin: bool = False
) -> dict[str, list[Any]]:
    """Joined labels as in storage/formats/labels.py; ``faulty`` maps a model to (epoch, reason)."""
    rng = np.random.default_rng(7)
    faulty = faulty or {}
    columns: dict[str, list[Any]] = {}
    for model, row in enumerate(grid(num_models)):
        init = {"uniform": 0.25, "normal": 0.55, "kaiming_uniform": 0.95, "kaiming_normal": 0.9}[row["initializer"]]
        speed = 1.2 if row["learning_rate"] == 0.001 else 0.35
        speed *= 0.4 if row["activation"] == "sigmoid" else 1.0
        speed *= 0.6 if row["optimizer"] == "sgd" else 1.0
        ceiling = 0.1 + 0.86 * init * (0.92 if row["dropout_ratio"] else 1.0) + rng.normal(0, 0.012)
        for epoch in range(num_epochs + 1):
            begun = 0.1 + (ceiling - 0.1) * (1 - np.exp(-speed * epoch)) + rng.normal(0, 0.006)
            test = float(np.clip(begun, 0.04, 0.99))
            values: dict[str, Any] = {"sparsity_ratio": None}
            if twin:
                share = 0.8 * (1 - np.exp(-0.35 * max(0, epoch - 1))) + 0.003
                test = float(np.clip(ceiling * (1 - 0.05 * share), 0.04, 0.99))
                values["sparsity_ratio"] = min(0.99, share + rng.normal(0, 0.008) * (epoch > 1))
            dead = model in faulty and epoch >= faulty[model][0]
            running = (
                None if epoch == 0 or dead else float(np.clip(test - (0.06 if row["dropout_ratio"] else -0.01), 0, 1))
            )
            values |= {
                "model": model,
                "epoch": epoch,
                "split": ("train", "val", "test")[0 if model % 7 < 5 else 1 if model % 7 == 5 else 2],
                "test_acc": None if dead else round(test * NUM_TEST) / NUM_TEST,
                "val_acc": None if dead else round(test * NUM_TEST + rng.integers(-9, 9)) / NUM_TEST,
                "train_acc": test if epoch % 3 == 0 and not dead else None,
                "running_train_acc": running,
                "test_loss": None if dead else float(2.3 - 2 * test),
                "val_loss": None if dead else float(2.3 - 2 * test),
                "running_train_loss": None if running is None else 2.3 - 2 * running,
                "faulty_epoch": faulty[model][0] if dead else None,
                "faulty_reason": faulty[model][1] if dead else None,
                "momentum": 0.9,
                "nesterov": False,
                **row,
            }
            values["ggap"] = None if running is None or values["test_acc"] is None else running - values["test_acc"]
            for name, value in values.items():
                columns.setdefault(name, []).append(value)
    return columns


def states(zoo: Population, num_parameters: int = 200) -> StateSample:
    rng = np.random.default_rng(3)
    scale = {"uniform": 0.6, "normal": 0.9, "kaiming_uniform": 0.35, "kaiming_normal": 0.35}
    initializers = zoo.hyperparameters["initializer"].tolist()
    start = rng.normal(0, 1, (zoo.num_models, num_parameters)) * np.array([scale[i] for i in initializers])[:, None]
    start += np.array([0.5 if i == "uniform" else 0.0 for i in initializers])[:, None]
    goal = rng.normal(0, 1, (4, num_parameters))
    target = goal[[("tanh", "relu", "sigmoid", "gelu").index(a) for a in zoo.hyperparameters["activation"].tolist()]]
    progress = (1 - np.exp(-0.4 * zoo.epochs_E))[None, :, None]
    weights = start[:, None] + 0.5 * progress * target[:, None]
    for row in np.flatnonzero(~zoo.sound_N):
        weights[row, zoo.epochs_E >= zoo.faulty_epochs_N[row]] = np.nan
    return StateSample(zoo.models_N, zoo.epochs_E, weights.astype(np.float32))


def facts(name: str = "digits-cnn-s", **changes: Any) -> ZooFacts:
    values: dict[str, Any] = {
        "name": name, "description": "Made-up digits, the small CNN: 256 sets of hyperparameters, 10 seeds each.",
        "kind": "hyp-fixed", "dataset": "mnist5k, 5,000 handwritten digits", "architecture": "cnn-s",
        "num_parameters": 2464, "num_classes": 10, "num_models": 2560, "num_epochs": 50, "num_cells": 256, "axes": AXES,
        "run": "0123456789abcdef" * 2, "version": 1, "manifest_sha256": "ab" * 32, "engines": ("lanes 1, avx512",),
    }  # fmt: skip
    return ZooFacts(**{**values, **changes})


def contents(num_models: int = 64, num_epochs: int = 6, *, twins: bool = True, with_faulty: bool = True) -> Contents:
    """The contents of a whole report, with faulty models and twins by default."""
    bad = {5: (3, "nan"), 9: (4, "inf"), 21: (3, "nan")} if with_faulty else {}
    zoo = population(label_columns(num_models, num_epochs, bad))
    sparse = None
    if twins:
        dead = dict.fromkeys(bad, (0, "parent")) | ({30: (2, "nan")} if with_faulty else {})
        sparse = Contents(
            facts("digits-cnn-s-vd", kind="variational dropout", num_epochs=25),
            population(label_columns(num_models, 8, dead, twin=True)),
        )
    return Contents(facts(), zoo, weight_map(states(zoo)), twins=sparse)
