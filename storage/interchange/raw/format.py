"""Convert between our rows and labels and the reference's ``params.json`` and ``result.json``. Pure.

Files of the reference cannot express the counts behind accuracies, clean train metrics, faulty epochs and lineage.
These are in the member ``zooforge`` of each row and in the file ``zooforge.json`` of the root, which its readers
ignore.
"""

import json
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...canonical import digest_of
from ...errors import FormatError
from ...formats.labels import ALL_COLUMNS, NORM_COLUMNS, PART_COLUMNS, TWIN_COLUMNS
from .metrics import SENTINEL, number

ROOT_FILE = "zooforge.json"
ROOT_FORMAT = "zooforge.raw"
ROOT_VERSION = 1
OURS = "zooforge"
ACTIVATIONS = {"leaky_relu": "leakyrelu"}
OPTIMIZERS = {"rmsprop": "rms_prop"}
_INTEGER = re.compile(r"[0-9]{1,19}")
_CHECKPOINT = re.compile(r"checkpoint_([0-9]{1,9})")
MAX_EPOCH = 10**5
_TRIAL = re.compile(
    r"trainable(?:_from_checkpoint)?_(?:(?P<own>\d{5})_[0-9a-f]{16}$|[0-9a-f]{5}_(?P<ray>\d{5})(?:_|$))"
)
_OLD_TRIAL = re.compile(r"trainable(?:_from_checkpoint)?_(\d{1,5})(?:_|$)")
MAX_COUNT = 10**6
SOURCE_PATH, SOURCE_EPOCH = "training::init_checkpoint_path", "training::sample_epoch"  # for sparsified models

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
"""Numbers of train, val and test images in the reference's zoos."""
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
    """The name of a model's folder, from which the label parser of the reference takes index and digest."""
    return f"NN_tune_trainable_{index:05d}_{row_digest}"


def trial_number(name: str) -> int | None:
    """The number of the trial in the name of a folder that Ray or our export wrote; None for other names."""
    match = _TRIAL.search(name)
    if match is not None:
        return int(match["own"] or match["ray"])
    match = _OLD_TRIAL.search(name)
    return None if match is None else int(match[1])


def checkpoint_number(name: str) -> int | None:
    """7 for a folder ``checkpoint_7`` or ``checkpoint_000007``; None for other names."""
    match = _CHECKPOINT.fullmatch(name)
    return None if match is None or int(match[1]) > MAX_EPOCH else int(match[1])


def source_of(config: Mapping[str, Any]) -> tuple[int, int]:
    """The model and epoch that a sparsified model started from, according to its config.

    Raises:
        FormatError: the config does not name them.
    """
    path, epoch = config.get(SOURCE_PATH), config.get(SOURCE_EPOCH)
    models = [trial_number(piece) for piece in path.split("/")] if isinstance(path, str) else []
    model = next((trial for trial in reversed(models) if trial is not None), None)
    if model is None or type(epoch) is not int or not 0 <= epoch <= MAX_EPOCH:
        raise FormatError(f"its config does not say which model and epoch it started from ({SOURCE_PATH})")
    return model, epoch


def dataset_of(*texts: str) -> str:
    """The data set that the first matching path or name contains; ``unknown`` if none contains one."""
    for text in texts:
        lowered = text.lower()
        for dataset, words in _DATASETS:
            if any(word in lowered for word in words):
                return dataset
    return "unknown"


# Hyperparameters.


def row_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a model, made from its config.

    Raises:
        FormatError: the config has no seed, or a value of a wrong type.
    """
    try:
        nlin, optimizer = config.get("model::nlin"), config.get("optim::optimizer")
        row = {
            "activation": _text(_ours(ACTIVATIONS, nlin)),
            "dropout_ratio": _number(config.get("model::dropout", 0.0)),
            "initializer": _text(config.get("model::init_type")),
            "learning_rate": _number(config.get("optim::lr")),
            "momentum": _number(config.get("optim::momentum", 0.0)),
            "nesterov": _flag(config.get("optim::nesterov", False)),
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
        raise ValueError(f"{_short(value)} is no name")
    return value


def _seed(value: Any) -> int:
    """A whole number, which may also be written as 7.0 or "7"."""
    seed = value
    if (isinstance(value, float) and value.is_integer() and abs(value) < 2**53) or (
        isinstance(value, str) and _INTEGER.fullmatch(value)
    ):
        seed = int(value)
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise ValueError(f"{_short(value)} is no seed")
    return seed


def _number(value: Any) -> float | None:
    """A finite number, or None. It may be written as text, because YAML reads 1e-3 as text."""
    if value is None:
        return None
    try:
        read = number(value)
    except ValueError:
        read = None
    if read is None or isinstance(value, list):
        raise ValueError(f"{_short(value)} is no number")
    return read


def _flag(value: Any) -> bool:
    names = {"true": True, "false": False, "1": True, "1.0": True, "0": False, "0.0": False, "none": False}
    if str(value).lower() not in names:
        raise ValueError(f"{_short(value)} is neither true nor false")
    return names[str(value).lower()]


def _short(value: Any) -> str:
    if type(value) is int and value.bit_length() > 200:
        return "an integer of more than 60 digits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


# Rows of result.json.


def result_row(
    epoch: int, label: Mapping[str, Any], config: Mapping[str, Any], trial: str, last: bool
) -> dict[str, Any]:
    """The line of ``result.json`` for one row of labels, whose null columns are None.

    A null metric becomes NaN, as in the reference for models that diverged. At epoch 0 the train metrics are the clean
    ones, as in the later version of the reference. If there are none, they are -999, as in its older version.
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


_OWN = [column for column in (*PART_COLUMNS, *NORM_COLUMNS, *TWIN_COLUMNS) if column.name not in ("model", "epoch")]


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def json_line(value: Any) -> str:
    """One line of ``result.json`` with sorted keys. NaN is written as Python and the reference write it."""
    return json.dumps(value, sort_keys=True) + "\n"


def parse_row(line: str) -> dict[str, Any]:
    """Parse a line of ``result.json``. NaN becomes None, infinities stay. Raises ValueError."""
    value = plain_json(json.loads(line, parse_constant=lambda name: None if name == "NaN" else float(name)))
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def plain_json(value: Any, depth: int = 0) -> Any:
    """A copy of a JSON value that can be written as UTF-8, because lone surrogates are replaced.

    Raises:
        ValueError: the value is nested more than 32 levels deep.
    """
    if depth > 32:
        raise ValueError("it is nested too deeply")
    match value:
        case dict():
            return {plain_json(name): plain_json(item, depth + 1) for name, item in value.items()}
        case list():
            return [plain_json(item, depth + 1) for item in value]
        case str():
            return value.encode("utf-8", "replace").decode()
    return value


def own_columns(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The label columns that our export added to the row, if any. Raises FormatError for an unknown column."""
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
            return (type(value) is int and abs(value) < 2**53) or (type(value) is float and math.isfinite(value))


def image_count(ratios: NDArray[np.float64], known: int | None) -> int | None:
    """The number of images that accuracies ``ratios`` are fractions of; None if there is none up to ``MAX_COUNT``.

    The number is ``known`` if all accuracies are multiples of 1 / ``known`` within single precision. Otherwise it is
    the smallest number of which all accuracies are exact fractions.
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
