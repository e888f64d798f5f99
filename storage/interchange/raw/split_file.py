"""Read the splits in a preprocessed data set of the reference, which holds the paths of the models of each split.

``torch.save`` wrote the file. It holds a dict with ``trainset``, ``valset`` and ``testset``, which are instances of the
reference's data set class. No code of that class runs here. Only the paths are read, and no tensor.

Source: the reference's ``checkpoints_to_datasets.dataset_base.ModelDatasetBase`` and the notebook that saves it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import FormatError, StorageUsageError
from ...formats.restricted_pickle import Allowed, StandIn
from ...formats.splits import SplitName, SplitRule, assign_splits
from ..torch_file import read_value
from .tree import RawTree

SETS: dict[str, SplitName] = {"trainset": "train", "valset": "val", "testset": "test"}


class _Instance(StandIn):
    """An instance of the reference's class, read as the dict of its attributes."""

    def __init__(self) -> None:
        self._attributes: dict[Any, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise ValueError("a data set whose state is no dict")
        self._attributes = state

    def resolve(self) -> dict[Any, Any]:
        return self._attributes


class _Path(StandIn):
    """A pickled path, read as its last part."""

    def __init__(self, *parts: Any) -> None:
        self._parts = parts

    def resolve(self) -> str:
        if not self._parts or not all(isinstance(part, str) for part in self._parts):
            raise ValueError("a path that is no text")
        return str(self._parts[-1]).replace("\\", "/").rstrip("/").rpartition("/")[2]


_ALLOWED: Allowed = {
    ("checkpoints_to_datasets.dataset_base", "ModelDatasetBase"): _Instance,
    **{(module, name): _Path for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")},
}


def read_splits(path: Path) -> dict[str, SplitName]:
    """The split of each model, by the name of its folder.

    Raises:
        FormatError: the file is damaged or is not such a file of the reference, or a model is in two splits.
    """
    value = read_value(path, _ALLOWED)
    if not isinstance(value, dict) or not set(value) & set(SETS):
        raise FormatError(f"{path}: holds no trainset, valset or testset")
    splits: dict[str, SplitName] = {}
    for name, split in SETS.items():
        instance = value.get(name)
        if instance is None:
            continue
        paths = instance.get("paths") if isinstance(instance, dict) else None
        if not isinstance(paths, list) or not all(isinstance(one, str) for one in paths):
            raise FormatError(f"{path}: its {name} has no list of paths, so it does not say which models are in it")
        for one in paths:
            folder = one.rstrip("/").rpartition("/")[2]
            if splits.setdefault(folder, split) != split:
                raise FormatError(f"{path}: model {folder} is in {splits[folder]} and in {split}")
    return splits


def record_splits(tree: RawTree, rows: Mapping[int, dict[str, Any]], splits: Mapping[str, SplitName], zoo: str) -> None:
    """Add the split of each model to its row. A model without a recorded split gets one by hash, with a finding.

    Raises:
        StorageUsageError: no split is recorded for any of the models.
    """
    recorded = {index: splits.get(tree.models[index].folder.name) for index in rows}
    if not any(recorded.values()):
        other = next(iter(splits), "none")
        raise StorageUsageError(f"{tree.root}: the recorded splits are of other models, e.g. {other!r}")
    for index, split in recorded.items():
        if split is None:
            tree.findings.add(index, "no split of it was recorded: it gets one by hash")
            (split,) = assign_splits(SplitRule(), zoo, [index], {}, tree.num_models)
        rows[index]["split"] = split
