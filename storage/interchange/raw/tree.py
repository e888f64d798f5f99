"""What a tree in the reference's format holds, folder by folder, with everything that is wrong said by model."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...canonical import parse_json
from ...errors import FormatError, NewerFormat, StorageUsageError
from .format import (
    MAX_EPOCH,
    METRICS,
    ROOT_FILE,
    ROOT_FORMAT,
    ROOT_VERSION,
    checkpoint_epoch,
    metrics_of,
    own_columns,
    parse_row,
    spans,
    trial_number,
)


@dataclass
class Findings:
    """What was found wrong or odd: reason to the models it is true of. ``strays`` are folders that are no models."""

    by_reason: dict[str, set[int]] = field(default_factory=dict)
    absent: dict[int, str] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)

    def add(self, model: int, reason: str) -> None:
        self.by_reason.setdefault(reason, set()).add(model)

    def drop(self, model: int, reason: str) -> None:
        """The model is not imported."""
        self.absent.setdefault(model, reason)

    def lines(self) -> list[str]:
        """One line each, models as half-open ranges."""
        found = [f"{name}: no model's folder, passed over" for name in self.strays]
        dropped: dict[str, list[int]] = {}
        for model, reason in self.absent.items():
            dropped.setdefault(reason, []).append(model)
        found += [f"models {spans(models)}: left out: {reason}" for reason, models in dropped.items()]
        return found + [f"models {spans(sorted(models))}: {reason}" for reason, models in self.by_reason.items()]

    def to_json(self) -> dict[str, Any]:
        return {
            "absent": {str(model): reason for model, reason in sorted(self.absent.items())},
            "findings": [{"reason": r, "models": sorted(models)} for r, models in self.by_reason.items()],
            "strays": self.strays,
        }


@dataclass
class RawModel:
    """One folder: its config; by epoch its metrics (``METRICS``), what an export of ours added, and its checkpoint.

    ``without_file`` are epochs whose folder holds no ``checkpoints``.
    """

    index: int
    folder: Path
    config: dict[str, Any]
    metrics: dict[int, tuple[float | None, ...]]
    own: dict[int, dict[str, Any]]
    checkpoints: dict[int, Path]
    without_file: set[int]

    @property
    def last_epoch(self) -> int:
        return max([*self.metrics, *self.checkpoints])


@dataclass(frozen=True)
class RawTree:
    """All models of a tree by index, and the content of its ``zooforge.json`` if it is an export of ours."""

    root: Path
    models: dict[int, RawModel]
    num_models: int
    own: dict[str, Any] | None
    findings: Findings


def read_tree(root: Path) -> RawTree:
    """Read every ``params.json`` and ``result.json``, and list the checkpoints.

    Models are numbered by the trial that their folder is named after; where that does not tell them apart, by the order
    of the names.

    Raises:
        StorageUsageError: no folder, or no model in it.
    """
    if not root.is_dir():
        raise StorageUsageError(f"{root}: no such folder; name the one that holds the models' folders")
    findings = Findings()
    own = _own(root)
    folders = []
    for path in sorted(path for path in root.iterdir() if path.is_dir()):
        if path.name.startswith(".") or not _is_model(path):
            findings.strays.append(path.name)
        else:
            folders.append(path)
    if not folders:
        raise StorageUsageError(
            f"{root}: no model in it; expected folders with result.json and checkpoint_000000/checkpoints"
        )
    models = {}
    indices = _indices(folders, own)
    for path in folders:
        model = _read_model(path, indices[path.name], findings)
        if model is not None:
            models[model.index] = model
    _compare_epochs(models, own, findings)
    return RawTree(root, dict(sorted(models.items())), max(indices.values()) + 1, own, findings)


def _compare_epochs(models: Mapping[int, RawModel], own: Mapping[str, Any] | None, findings: Findings) -> None:
    """Name what a model has a row of, but no checkpoint, where at least half of the models have one.

    An export of ours says which checkpoints it wrote.
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
    return any(checkpoint_epoch(child.name) is not None for child in path.iterdir())


def _own(root: Path) -> dict[str, Any] | None:
    path = root / ROOT_FILE
    if not path.is_file():
        return None
    value = parse_json(path.read_bytes(), str(path))
    if not isinstance(value, dict) or value.get("format") != ROOT_FORMAT:
        raise FormatError(f"{path}: not the file that an export writes; move it away to import the tree without it")
    if not isinstance(value.get("version"), int) or value["version"] > ROOT_VERSION:
        raise NewerFormat(f"{path}: version {value.get('version')}, this program reads {ROOT_VERSION}")
    try:
        for folder in value["folders"].values():
            if type(folder["model"]) is not int or not 0 <= folder["model"] < 10**7:
                raise ValueError(f"model {folder['model']!r}")
            if any(not 0 <= int(start) <= int(stop) <= MAX_EPOCH + 1 for start, stop in folder["epochs"]):
                raise ValueError(f"epochs {folder['epochs']}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path}: its folders are not readable ({type(error).__name__}: {error})") from None
    return value


def _indices(folders: list[Path], own: Mapping[str, Any] | None) -> dict[str, int]:
    if own is not None and all(path.name in own["folders"] for path in folders):
        return {path.name: own["folders"][path.name]["model"] for path in folders}
    trials = [trial_number(path.name) for path in folders]
    if None not in trials and len(set(trials)) == len(trials):
        return {path.name: trial for path, trial in zip(folders, trials, strict=True) if trial is not None}
    return {path.name: index for index, path in enumerate(folders)}


def _read_model(path: Path, index: int, findings: Findings) -> RawModel | None:
    """The folder's model; None, with a reason in ``findings``, if it cannot be one."""
    config = _params(path, index, findings)
    metrics: dict[int, tuple[float | None, ...]] = {}
    own: dict[int, dict[str, Any]] = {}
    result = path / "result.json"
    if not result.is_file():
        findings.add(index, "no result.json: no metrics")
    else:
        lines = result.read_text(errors="replace").splitlines()
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = parse_row(line)
                epoch = row.get("training_iteration")
                if not isinstance(epoch, int) or isinstance(epoch, bool) or not 0 <= epoch <= MAX_EPOCH:
                    raise ValueError("it has no training_iteration")
                found = own_columns(row)
            except (ValueError, RecursionError, FormatError) as error:
                where = "the last line" if number == len(lines) else "a line"
                why = "truncated or damaged" if isinstance(error, json.JSONDecodeError) else str(error)
                findings.add(index, f"result.json: {where} is not readable ({why}): no metrics of that epoch")
                continue
            metrics[epoch] = metrics_of(row)
            if found is not None:
                own[epoch] = found
            if config is None and isinstance(row.get("config"), dict):
                config = row["config"]
    checkpoints, without_file = _checkpoints(path, index, findings)
    if not checkpoints:
        findings.drop(index, "no checkpoint in its folder")
    elif config is None:
        findings.drop(index, "neither params.json nor result.json has its config, so its seed is not known")
    else:
        return RawModel(index, path, config, metrics, own, checkpoints, without_file)
    return None


def _params(path: Path, index: int, findings: Findings) -> dict[str, Any] | None:
    try:
        value = json.loads((path / "params.json").read_bytes())
    except FileNotFoundError:
        findings.add(index, "no params.json: the config is that of its result.json")
        return None
    except (ValueError, RecursionError):
        findings.add(index, "params.json is not readable: the config is that of its result.json")
        return None
    return value if isinstance(value, dict) else None


def _checkpoints(path: Path, index: int, findings: Findings) -> tuple[dict[int, Path], set[int]]:
    """Files by epoch, and epochs whose folder has none.

    Of ``checkpoint_7`` and ``checkpoint_000007`` the first is taken, which the reference looks for first.
    """
    found: dict[int, Path] = {}
    without: set[int] = set()
    for child in sorted(path.iterdir(), key=lambda child: len(child.name)):
        epoch = checkpoint_epoch(child.name)
        if epoch is None or not child.is_dir():
            continue
        if epoch in found:
            findings.add(
                index, f"epoch {epoch} is there twice: {found[epoch].parent.name} is read, as the reference does"
            )
        elif not (child / "checkpoints").is_file():
            without.add(epoch)
            findings.add(index, f"epoch {epoch}: {child.name} has no file `checkpoints`: no weights of that epoch")
        else:
            found[epoch] = child / "checkpoints"
    return dict(sorted(found.items())), without


def metric(model: RawModel, epoch: int, name: str) -> float | None:
    """One metric of one epoch, None where there is none."""
    row = model.metrics.get(epoch)
    return None if row is None else row[METRICS.index(name)]
