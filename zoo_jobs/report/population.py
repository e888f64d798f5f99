"""The labels of a zoo as matrices over models and epochs. Pure."""

# Shape suffixes: N = models, E = epochs.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

HYPERPARAMETERS = (
    "activation",
    "initializer",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "dropout_ratio",
    "train_fraction",
    "label_noise",
    "initial_std",
    "momentum",
    "nesterov",
)
METRICS = (
    "test_acc",
    "val_acc",
    "train_acc",
    "running_train_acc",
    "ggap",
    "test_loss",
    "val_loss",
    "running_train_loss",
    "sparsity_ratio",
    "psnr",
)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """Labels by model and epoch, both ascending. A metric is NaN if it is null or the model lacks the epoch.

    Attributes:
        hyperparameters: name to one value per model, [N]; names without values are absent.
        metrics: name to values [N, E].
        faulty_epochs_N: first epoch at whose end a weight was not finite, -1 of sound models.
        faulty_reasons_N: ``nan``, ``inf``, ``parent``, or empty.
        last_epochs_N: last epoch of each model.
    """

    models_N: NDArray[np.int64]
    epochs_E: NDArray[np.int64]
    seeds_N: NDArray[np.int64]
    splits_N: NDArray[Any]
    hyperparameters: dict[str, NDArray[Any]]
    metrics: dict[str, Floats]
    faulty_epochs_N: NDArray[np.int64]
    faulty_reasons_N: NDArray[Any]
    last_epochs_N: NDArray[np.int64]

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last epoch."""
        return int(self.epochs_E[0]), int(self.epochs_E[-1])

    @property
    def num_models(self) -> int:
        return len(self.models_N)

    @property
    def num_states(self) -> int:
        return int((self.last_epochs_N + 1).sum())

    @property
    def sound_N(self) -> NDArray[np.bool_]:
        """True where a model stayed finite, [N]."""
        return self.faulty_epochs_N < 0

    def has(self, metric: str) -> bool:
        """True if ``metric`` has a finite value."""
        return bool(np.isfinite(self.metrics[metric]).any())

    def final(self, metric: str) -> Floats:
        """Values at the last epoch of the zoo, [N]; NaN for models that are faulty or have not reached it."""
        return self.metrics[metric][:, -1]

    def varying(self) -> dict[str, NDArray[Any]]:
        """Hyperparameters with more than one value among these models."""
        return {name: values for name, values in self.hyperparameters.items() if len(set(values.tolist())) > 1}


def population(columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> Population:
    """A zoo's joined labels, column by column, as matrices.

    Args:
        columns: names as in storage/formats/labels.py; null is None, or NaN in an array of floats; rows (model, epoch)
            in any order, each pair once.

    Raises:
        ValueError: there is no row.
    """
    if not len(columns["model"]):
        raise ValueError("labels without a row")
    models_N, row_model = np.unique(np.asarray(columns["model"], np.int64), return_inverse=True)
    epochs_E, row_epoch = np.unique(np.asarray(columns["epoch"], np.int64), return_inverse=True)
    first = np.zeros(len(models_N), np.int64)
    first[row_model] = np.arange(len(row_model))
    last_epochs_N = np.zeros(len(models_N), np.int64)
    np.maximum.at(last_epochs_N, row_model, epochs_E[row_epoch])

    def matrix(name: str) -> Floats:
        values = np.full((len(models_N), len(epochs_E)), np.nan)
        if name in columns:
            values[row_model, row_epoch] = np.asarray(columns[name], np.float64)  # None becomes NaN
        return values

    def per_model(name: str) -> list[Any]:
        return np.asarray(columns[name])[first].tolist() if name in columns else [None]

    hyperparameters = {}
    for name in HYPERPARAMETERS:
        values = per_model(name)
        if not any(value is None or value != value for value in values):
            hyperparameters[name] = np.asarray(values)
    faulty_epochs, reasons = np.full(len(models_N), -1, np.int64), [""] * len(models_N)
    faulty_epoch = np.asarray(columns["faulty_epoch"], np.float64)
    for row in np.flatnonzero(np.isfinite(faulty_epoch)):
        faulty_epochs[row_model[row]] = faulty_epoch[row]
        reasons[row_model[row]] = columns["faulty_reason"][int(row)] or ""
    return Population(
        models_N=models_N,
        epochs_E=epochs_E,
        seeds_N=np.asarray(per_model("seed"), np.int64),
        splits_N=np.asarray(per_model("split")),
        hyperparameters=hyperparameters,
        metrics={name: matrix(name) for name in METRICS},
        faulty_epochs_N=faulty_epochs,
        faulty_reasons_N=np.asarray(reasons),
        last_epochs_N=last_epochs_N,
    )
