"""Read the folders of a tree: configs, rows of ``result.json``, and the checkpoint of each epoch."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...budget import JSON
from ...canonical import parse_json
from ...errors import FormatError, NewerFormat, StorageUsageError
from ..torch_file import is_torch_file
from .checkpoint_numbers import FOLDER_OF_ROW, assign_epochs
from .findings import Findings
from .format import (
    MAX_EPOCH,
    ROOT_FILE,
    ROOT_FORMAT,
    ROOT_VERSION,
    checkpoint_number,
    own_columns,
    parse_row,
    plain_json,
    trial_number,
)
from .metrics import METRICS, Row, number, read_metrics

CHECKPOINT = "checkpoints"  # the file in each folder checkpoint_N
_NO_METRICS: Row = (None,) * len(METRICS)


@dataclass
class RawModel:
    """One folder of a tree.

    Attributes:
        rows: rows of ``result.json`` by epoch; ``own``: label columns that our export added to them.
        metrics: ``METRICS`` by epoch.
        numbered: checkpoint file by the number of its folder; ``without_file``: numbers of folders that have none.
        checkpoints: checkpoint file by epoch.
        from_matrix: whether the model was read from rows of a matrix. Then train metrics are clean ones, and only some
            epochs have rows.
    """

    index: int
    folder: Path
    config: dict[str, Any]
    rows: dict[int, dict[str, Any]]
    own: dict[int, dict[str, Any]]
    numbered: dict[int, Path]
    without_file: set[int]
    metrics: dict[int, Row] = field(default_factory=dict)
    checkpoints: dict[int, Path] = field(default_factory=dict)
    from_matrix: bool = False

    @property
    def last_epoch(self) -> int:
        return max([*self.metrics, *self.checkpoints])


@dataclass(frozen=True)
class RawTree:
    """All models of a tree by index, and the content of ``zooforge.json`` if our export wrote the tree."""

    root: Path
    models: dict[int, RawModel]
    num_models: int
    own: dict[str, Any] | None
    findings: Findings


def read_tree(root: Path, first_checkpoint: int | None = None) -> RawTree:
    """Read every ``params.json`` and ``result.json``, and list the checkpoints.

    The index of a model is the number of the trial in the name of its folder. If two folders have the same number, or
    one has none, models are numbered in the order of the names. ``zooforge.json`` of our export gives other indices.

    Args:
        first_checkpoint: epoch of ``checkpoint_000000``, 0 or 1, if rows do not name their checkpoints; None: the
            majority of models decides.

    Raises:
        StorageUsageError: ``root`` is no readable folder, holds no model, or ``first_checkpoint`` is needed.
    """
    if not root.is_dir():
        raise StorageUsageError(f"{printable(root)}: no such folder; name the one that holds the models' folders")
    try:
        return _read_tree(root, first_checkpoint)
    except OSError as error:
        raise StorageUsageError(f"{printable(error.filename or root)}: not readable ({error.strerror})") from None


def _read_tree(root: Path, first_checkpoint: int | None) -> RawTree:
    findings = Findings()
    root, folders = _model_folders(root, findings)
    own = _own(root)
    models = {}
    indices = _indices(folders, own)
    for path in folders:
        model = _read_model(path, indices[path.name], findings)
        if model is not None:
            models[model.index] = model
    models = dict(sorted(models.items()))
    assign_epochs(root, models, 0 if own is not None else first_checkpoint, findings)
    for index in [index for index, model in models.items() if not model.checkpoints]:
        findings.drop(index, "no row of result.json names any of its checkpoints")
        del models[index]
    _add_metrics(models, findings)
    _compare_epochs(models, own, findings)
    return RawTree(root, models, max(indices.values()) + 1, own, findings)


def _model_folders(root: Path, findings: Findings) -> tuple[Path, list[Path]]:
    """The folder that holds the models, and their folders. The first is ``root`` or its only folder with models."""
    children = sorted(path for path in root.iterdir() if path.is_dir())
    folders = [path for path in children if not path.name.startswith(".") and _is_model(path)]
    if folders:
        findings.strays += [printable(path.name) for path in children if path not in folders]
        return root, folders
    nested = [path for path in children if any(_is_model(child) for child in path.iterdir() if child.is_dir())]
    if len(nested) == 1:
        findings.of_tree.append(f"the models are one folder deeper, in {printable(nested[0].name)}")
        return _model_folders(nested[0], findings)
    if nested:
        names = ", ".join(printable(path.name) for path in nested)
        raise StorageUsageError(f"{printable(root)}: no model in it, but in {names}: name one of these folders")
    raise StorageUsageError(
        f"{printable(root)}: no model in it; expected folders with result.json and checkpoint_000000/checkpoints"
    )


def printable(path: Path | str) -> str:
    """A name for a message. Bytes that are not UTF-8, and characters that are not printable, are replaced."""
    text = os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _add_metrics(models: Mapping[int, RawModel], findings: Findings) -> None:
    """Fill ``RawModel.metrics``. Rows that our export wrote have label columns instead."""
    foreign = {
        index: {epoch: row for epoch, row in model.rows.items() if epoch not in model.own}
        for index, model in models.items()
    }
    for index, metrics in read_metrics(foreign, findings).items():
        models[index].metrics = {epoch: metrics.get(epoch, _NO_METRICS) for epoch in models[index].rows}


def _compare_epochs(models: Mapping[int, RawModel], own: Mapping[str, Any] | None, findings: Findings) -> None:
    """Report each epoch that has a row but no checkpoint, if at least half of the models have a checkpoint there.

    If our export wrote the tree, ``zooforge.json`` says which checkpoints are expected.
    """
    counts = Counter(epoch for model in models.values() for epoch in model.checkpoints)
    usual = [epoch for epoch, count in counts.items() if 2 * count >= len(models)]
    for model in models.values():
        expected, whose = [epoch for epoch in usual if epoch in model.metrics], "other models have it"
        if own is not None and model.folder.name in own["folders"]:
            ranges = own["folders"][model.folder.name]["epochs"]
            expected, whose = [e for start, stop in ranges for e in range(start, stop)], "the export wrote one"
        for epoch in sorted(expected):
            if epoch not in model.checkpoints and epoch not in model.without_file:
                findings.add(model.index, f"epoch {epoch}: no checkpoint, {whose}: no weights of that epoch")


def _is_model(path: Path) -> bool:
    if (path / "result.json").is_file() or (path / "params.json").is_file():
        return True
    return any(checkpoint_number(child.name) is not None for child in path.iterdir())


def _own(root: Path) -> dict[str, Any] | None:
    path = root / ROOT_FILE
    if not path.is_file():
        return None
    value = parse_json(path.read_bytes(), str(path))
    if not isinstance(value, dict) or value.get("format") != ROOT_FORMAT:
        raise FormatError(f"{path}: not the file that an export writes; move it away to import the tree without it")
    if type(value.get("version")) is not int or value["version"] > ROOT_VERSION:
        raise NewerFormat(f"{path}: version {value.get('version')}, this program reads {ROOT_VERSION}")
    try:
        for folder in value["folders"].values():
            if type(folder["model"]) is not int or not 0 <= folder["model"] < 10**7:
                raise ValueError(f"model {folder['model']!r}")
            if any(not 0 <= int(start) <= int(stop) <= MAX_EPOCH + 1 for start, stop in folder["epochs"]):
                raise ValueError(f"epochs {folder['epochs']}")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FormatError(f"{path}: its folders are not readable ({type(error).__name__}: {error})") from None
    return value


def _indices(folders: Iterable[Path], own: Mapping[str, Any] | None) -> dict[str, int]:
    names = [path.name for path in folders]
    if own is not None and all(name in own["folders"] for name in names):
        return {name: own["folders"][name]["model"] for name in names}
    trials = [trial_number(name) for name in names]
    if None not in trials and len(set(trials)) == len(trials):
        return {name: trial for name, trial in zip(names, trials, strict=True) if trial is not None}
    return {name: index for index, name in enumerate(names)}


def _read_model(path: Path, index: int, findings: Findings) -> RawModel | None:
    """The model of a folder; None, with a reason in ``findings``, if it cannot be imported."""
    config = _params(path, index, findings)
    rows, own, config_of_rows = _result(path, index, findings)
    config = config_of_rows if config is None else config
    numbered, without_file = _checkpoints(path, index, findings)
    if not numbered:
        findings.drop(index, "no checkpoint in its folder")
    elif config is None:
        findings.drop(index, "neither params.json nor result.json has its config, so its seed is not known")
    else:
        return RawModel(index, path, config, rows, own, numbered, without_file)
    return None


def _result(
    path: Path, index: int, findings: Findings
) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, Any]], dict[str, Any] | None]:
    """Rows of ``result.json`` by epoch, label columns that our export added, and the first config in a row."""
    rows: dict[int, dict[str, Any]] = {}
    own: dict[int, dict[str, Any]] = {}
    config = None
    try:
        text = _text(path / "result.json")
    except FileNotFoundError:
        findings.add(index, "no result.json: no metrics")
        return {}, {}, None
    except (OSError, ValueError) as error:
        findings.add(index, f"result.json is not readable ({error}): no metrics")
        return {}, {}, None
    lines = [(place, line) for place, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        findings.add(index, "result.json is empty: no metrics")
    for place, line in lines:
        try:
            row = parse_row(line)
            epoch = _epoch(row)
            columns = own_columns(row)
        except (ValueError, RecursionError, FormatError) as error:
            where = "the last line" if place == lines[-1][0] else "a line"
            why = "truncated or damaged" if isinstance(error, json.JSONDecodeError) else str(error)
            findings.add(index, f"result.json: {where} is not readable ({why}): no metrics of that epoch")
            continue
        if epoch in rows:
            findings.add(index, f"result.json has epoch {epoch} twice: the last row is taken")
        rows[epoch] = {name: row[name] for name in (*METRICS, FOLDER_OF_ROW) if name in row}
        if columns is not None:
            own[epoch] = columns
        if config is None and isinstance(row.get("config"), dict):
            config = row["config"]
    return rows, own, config


def _epoch(row: Mapping[str, Any]) -> int:
    """``training_iteration`` of a row: a whole number of at least 0, which may be an integer, a float or text."""
    value = None
    with suppress(ValueError):
        value = number(row.get("training_iteration"))
    if value is None or not value.is_integer() or not 0 <= value <= MAX_EPOCH:
        raise ValueError("it has no training_iteration")
    return int(value)


def _params(path: Path, index: int, findings: Findings) -> dict[str, Any] | None:
    try:
        value = plain_json(json.loads(_text(path / "params.json")))
    except FileNotFoundError:
        findings.add(index, "no params.json: the config is that of its result.json")
        return None
    except (ValueError, RecursionError, OSError):
        value = None
    if not isinstance(value, dict):
        findings.add(index, "params.json is not readable: the config is that of its result.json")
        return None
    return value


def _text(path: Path) -> str:
    """Text of a JSON file, in UTF-8 or UTF-16, with or without a byte-order mark."""
    size = path.stat().st_size
    if size > JSON.max_bytes:
        raise ValueError(f"{size} bytes, the limit is {JSON.max_bytes}")
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return data.decode(encoding, "replace")


def _checkpoints(path: Path, index: int, findings: Findings) -> tuple[dict[int, Path], set[int]]:
    """Checkpoint files by the number of their folder, and the numbers of folders that have none.

    If both ``checkpoint_7`` and ``checkpoint_000007`` exist, the first is read, as the reference does.
    """
    numbered: dict[int, Path] = {}
    without: set[int] = set()
    for child in sorted(path.iterdir(), key=lambda child: (len(child.name), child.name)):
        place = checkpoint_number(child.name)
        if place is None or not child.is_dir():
            continue
        if place in numbered:
            first = numbered[place].parent.name
            findings.add(index, f"{first} and {child.name} are both there: {first} is read, as by the reference")
            continue
        file = child / CHECKPOINT
        if not file.is_file():
            others = [file for file in sorted(child.iterdir()) if _may_hold_weights(file)]
            if len(others) != 1:
                names = "".join(f", but {printable(file.name)}" for file in others)
                findings.add(index, f"{child.name} has no file `{CHECKPOINT}`{names}: no weights of it")
                without.add(place)
                continue
            file = others[0]
            findings.add(index, f"checkpoints are read from files `{printable(file.name)}`, not `{CHECKPOINT}`")
        numbered[place] = file
    return dict(sorted(numbered.items())), without


def _may_hold_weights(path: Path) -> bool:
    return not path.name.startswith((".", "optimizer")) and path.is_file() and is_torch_file(path)
