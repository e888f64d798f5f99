"""The reference's ``params.json`` and ``result.json`` against our rows and labels. Pure.

What its files cannot say (counts behind accuracies, clean train metrics, faulty epochs, lineage) goes into the member
``zooforge`` of each row and the file ``zooforge.json`` of the root, which its readers pass over.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...canonical import digest_of
from ...errors import FormatError
from ...formats.labels import ALL_COLUMNS, PART_COLUMNS, TWIN_COLUMNS

ROOT_FILE = "zooforge.json"
ROOT_FORMAT = "zooforge.raw"
ROOT_VERSION = 1
OURS = "zooforge"
SENTINEL = -999  # the train loss and accuracy of epoch 0 in the reference's older zoos

ACTIVATIONS = {"leaky_relu": "leakyrelu"}
OPTIMIZERS = {"rmsprop": "rms_prop"}
_CHECKPOINT = re.compile(r"checkpoint_(\d{1,9})")
MAX_EPOCH = 10**5
_TRIAL = re.compile(
    r"trainable(?:_from_checkpoint)?_(?:(?P<own>\d{5})_[0-9a-f]{16}$|[0-9a-f]{5}_(?P<ray>\d{5})(?:_|$))"
)
_OLD_TRIAL = re.compile(r"trainable(?:_from_checkpoint)?_(\d{1,5})(?:_|$)")
MAX_COUNT = 10**6
SOURCE_PATH, SOURCE_EPOCH = "training::init_checkpoint_path", "training::sample_epoch"  # of sparsified models

IMAGES: dict[str, tuple[int, int, int]] = {
    "mnist": (50_000, 10_000, 10_000),
    "fashion-mnist": (50_000, 10_000, 10_000),
    "svhn": (60_000, 13_257, 26_032),
    "usps": (6_000, 1_291, 2_007),
    "cifar10": (42_000, 8_000, 10_000),
    "cifar100": (40_000, 10_000, 10_000),
    "stl10": (4_200, 800, 8_000),
    "tiny-imagenet": (100_000, 0, 10_000),
}
"""Images of train, val and test in the reference's zoos, where accuracies do not say otherwise."""
_DATASETS = (
    ("fashion-mnist", ("f_mnist", "fmnist", "fashion")),
    ("mnist", ("mnist",)),
    ("svhn", ("svhn",)),
    ("usps", ("usps",)),
    ("cifar100", ("cifar100",)),
    ("cifar10", ("cifar10",)),
    ("stl10", ("stl",)),
    ("tiny-imagenet", ("tiny",)),
    ("eurosat", ("eurosat",)),
)


# Names.


def folder_name(index: int, row_digest: str) -> str:
    """Name of a model's folder: id and hash are told apart by the reference's own parser of labels."""
    return f"NN_tune_trainable_{index:05d}_{row_digest}"


def trial_number(name: str) -> int | None:
    """Number of the trial that a folder of Ray, or one of ours, is named after."""
    match = _TRIAL.search(name)
    if match is not None:
        return int(match["own"] or match["ray"])
    match = _OLD_TRIAL.search(name)
    return None if match is None else int(match[1])


def checkpoint_epoch(name: str) -> int | None:
    """Epoch of a folder ``checkpoint_7`` or ``checkpoint_000007``."""
    match = _CHECKPOINT.fullmatch(name)
    return None if match is None or int(match[1]) > MAX_EPOCH else int(match[1])


def source_of(config: Mapping[str, Any]) -> tuple[int, int]:
    """(model, epoch) that a sparsified model started from, by the folder and epoch that its config names.

    Raises FormatError if it names none.
    """
    path, epoch = config.get(SOURCE_PATH), config.get(SOURCE_EPOCH)
    models = [trial_number(piece) for piece in path.split("/")] if isinstance(path, str) else []
    model = next((found for found in reversed(models) if found is not None), None)
    if model is None or type(epoch) is not int or not 0 <= epoch <= MAX_EPOCH:
        raise FormatError(f"its config does not say which model and epoch it started from ({SOURCE_PATH})")
    return model, epoch


def dataset_of(*texts: str) -> str:
    """Data set that paths or names speak of; ``unknown`` if none."""
    for text in texts:
        lowered = text.lower()
        for dataset, words in _DATASETS:
            if any(word in lowered for word in words):
                return dataset
    return "unknown"


# Hyperparameters.


def row_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """A model's row from its config.

    Raises:
        FormatError: no seed, or a value of another type than it must have.
    """
    try:
        nlin, optimizer = config.get("model::nlin"), config.get("optim::optimizer")
        row = {
            "activation": _text(_ours(ACTIVATIONS, nlin)),
            "dropout_ratio": _number(config.get("model::dropout", 0.0)),
            "initializer": _text(config.get("model::init_type")),
            "learning_rate": _number(config.get("optim::lr")),
            "momentum": _number(config.get("optim::momentum", 0.0)),
            "nesterov": bool(config.get("optim::nesterov", False)),
            "optimizer": _text(_ours(OPTIMIZERS, optimizer)),
            "seed": _seed(config["seed"]),
            "weight_decay": _number(config.get("optim::wd", 0.0)),
        }
    except KeyError:
        raise FormatError("its config has no seed") from None
    except (TypeError, ValueError) as error:
        raise FormatError(f"its config is not one of the reference ({error})") from None
    return {"row_digest": digest_of(row)[:16], **row}


def config_of(
    row: Mapping[str, Any], network: Mapping[str, Any], model_type: str, planned_epochs: int
) -> dict[str, Any]:
    """The reference's config of a model. ``network`` is the manifest's ``architecture`` and its ``dataset``."""
    source = {}
    if row["parent_model"] is not None:
        source[SOURCE_PATH] = f"{row['parent_zoo']}/NN_tune_trainable_{row['parent_model']:05d}"
        source[SOURCE_EPOCH] = row["parent_epoch"]
    return {
        **source,
        "cuda": False,
        "dataset::dump": f"{network['dataset']}/dataset.pt",
        "model::channels_in": network["in_channels"],
        "model::dropout": row["dropout_ratio"],
        "model::init_type": row["initializer"],
        "model::nlin": ACTIVATIONS.get(row["activation"], row["activation"]),
        "model::o_dim": network["num_classes"],
        "model::type": model_type,
        "model::use_bias": True,
        "optim::lr": row["learning_rate"],
        "optim::momentum": row["momentum"],
        "optim::nesterov": row["nesterov"],
        "optim::optimizer": OPTIMIZERS.get(row["optimizer"], row["optimizer"]),
        "optim::wd": row["weight_decay"],
        "seed": row["seed"],
        "training::epochs_train": planned_epochs,
        "training::output_epoch": 1,
    }


def _ours(names: Mapping[str, str], value: Any) -> Any:
    return next((ours for ours, theirs in names.items() if theirs == value), value)


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{value!r} is no name")
    return value


def _seed(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} is no seed")
    return value


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


# Rows of result.json.


def result_row(
    epoch: int, label: Mapping[str, Any], config: Mapping[str, Any], trial: str, last: bool
) -> dict[str, Any]:
    """The line of ``result.json`` for one label row (None where a column is null).

    A metric that is null is NaN, as the reference has it for models that diverged; the train metrics of epoch 0 are the
    clean ones, as its later version evaluates them, else -999, as its older one wrote.
    """
    clean = epoch == 0 and label["running_train_count"] is None
    train = "train" if clean else "running_train"
    absent = SENTINEL if clean and label["train_count"] is None and label["faulty_epoch"] is None else math.nan
    row: dict[str, Any] = {
        "config": dict(config),
        "done": last,
        "test_acc": _or(label["test_acc"], math.nan),
        "test_loss": _or(label["test_loss"], math.nan),
        "train_acc": _or(label[f"{train}_acc"], absent),
        "train_loss": _or(label[f"{train}_loss"], absent),
        "training_iteration": epoch,
        "trial_id": trial,
    }
    if label["val_count"] is not None:
        row["val_acc"] = _or(label["val_acc"], math.nan)
        row["val_loss"] = _or(label["val_loss"], math.nan)
    if label.get("sparsity_ratio") is not None:
        row["sparsity_ratio"] = label["sparsity_ratio"]
    row[OURS] = {c.name: value for c in _OWN if (value := label.get(c.name)) is not None}
    return row


_OWN = [column for column in (*PART_COLUMNS, *TWIN_COLUMNS) if column.name not in ("model", "epoch")]


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def json_line(value: Any) -> str:
    """One line of ``result.json``: sorted keys, NaN as Python and the reference write it."""
    return json.dumps(value, sort_keys=True) + "\n"


def parse_row(line: str) -> dict[str, Any]:
    """A line of ``result.json``; NaN and infinities become None. Raises ValueError."""
    value = json.loads(line, parse_constant=lambda _: None)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


METRICS = ("train_loss", "train_acc", "val_loss", "val_acc", "test_loss", "test_acc", "sparsity_ratio")


def metrics_of(row: Mapping[str, Any]) -> tuple[float | None, ...]:
    """``METRICS`` of a row, None where it has none, the sentinel or no finite number."""
    found: list[float | None] = []
    for name in METRICS:
        value = row.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or value == SENTINEL:
            found.append(None)
        else:
            usable = math.isfinite(value) and (name.endswith("_loss") or 0 <= value <= 1)
            found.append(float(value) if usable else None)
    return tuple(found)


def own_columns(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Label columns that an export of ours put into the row. Raises FormatError for one that does not exist."""
    own = row.get(OURS)
    if not isinstance(own, dict):
        return None
    for name, value in own.items():
        column = ALL_COLUMNS.get(name)
        if column is None or not _fits(value, column.type):
            raise FormatError(f"member {OURS!r} of its rows has {name!r}, which is no column or not of its type")
    return own


def _fits(value: Any, column_type: str) -> bool:
    match column_type:
        case "string":
            return isinstance(value, str)
        case "int32":
            return type(value) is int and 0 <= value < 2**31
        case _:
            return type(value) in (int, float) and math.isfinite(value)


def image_count(ratios: NDArray[np.float64], known: int | None) -> int | None:
    """How many images these accuracies are fractions of; None if they are of no count up to ``MAX_COUNT``.

    ``known`` if all are fractions of it, or as near as single precision is; else the smallest count of which all are.
    """
    unique = np.unique(ratios)
    if not len(unique):
        return known
    if known and (np.abs(unique * known - np.rint(unique * known)) < 0.01).all():
        return known
    count = 1
    for ratio in unique.tolist():
        fraction = Fraction(ratio).limit_denominator(MAX_COUNT)
        count = math.lcm(count, fraction.denominator)
        if count > MAX_COUNT or fraction.numerator / fraction.denominator != ratio:
            return None
    return count


def spans(numbers: Sequence[int]) -> str:
    """ "0:3, 7" for 0, 1, 2, 7."""
    from ...formats.manifest import to_ranges

    return ", ".join(str(a) if b == a + 1 else f"{a}:{b}" for a, b in to_ranges(sorted(set(numbers))))
