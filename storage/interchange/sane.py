"""Write a zoo as the samples that SANE's ``PreprocessedSamplingDataset`` reads: one torch file per token sequence.

Each ``dataset_torch.SPLIT/sample_N.pt`` holds tokens ``w``, mask ``m``, positions ``p`` and properties ``props`` of one
sample. Alternatively, one file ``dataset.pt`` holds all samples of all splits as arrays. ``dataset_info_SPLIT.json``
and ``dataset_normalization_SPLIT.json`` hold the settings of the export.

Source: HSG-AIML/SANE, ``dataset_preprocessing`` and ``dataset_sampling_preprocessed``.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import EpochNotPresent, StorageUsageError
from ..formats.splits import SPLITS
from ..formats.symmetry import align_canonical
from ..read.selection import Selector
from ..read.states import States
from ..views.tokens import rows_of, token_places
from ..zoo import Zoo
from .folders import Report, Wanted, fresh_folder, pieces, require_classification
from .torch_file import value_bytes, write_value

PRECISIONS: dict[str, type[np.floating[Any]]] = {"16": np.float16, "32": np.float32}
RESULTS = {"test_acc": "test_acc", "training_iteration": "epoch", "ggap": "ggap"}  # property -> label column


@dataclass(frozen=True, slots=True)
class Samples(Report):
    """The number of samples by split, and the number of states that were left out because they are not finite."""

    num_samples: dict[str, int]
    num_tokens: int
    token_size: int
    num_left_out: int

    def to_json(self) -> dict[str, Any]:
        return {
            "samples": self.num_samples,
            "tokens": self.num_tokens,
            "tokensize": self.token_size,
            "left_out": self.num_left_out,
        }

    def summary(self) -> str:
        counts = ", ".join(f"{number:,} {split}" for split, number in self.num_samples.items())
        return f"{counts} samples; {self.num_tokens:,} tokens of {self.token_size:,} values a model"

    def notes(self) -> list[str]:
        return [f"{self.num_left_out:,} states are not finite and were left out"] if self.num_left_out else []


def export_sane(
    zoo: Zoo,
    folder: str | PathLike[str],
    *,
    epochs: Selector = None,
    models: Selector = None,
    where: str | None = None,
    weight_threshold: float | None = None,
    token_size: int = 0,
    window: int = 0,
    precision: str = "32",
    standardize: bool = True,
    align: bool = False,
    dataset_pt: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Samples:
    """Write the selected states of all three splits of the zoo; equal zoos give equal bytes.

    Normalisation layers are left out, as with SANE's ``ignore_bn``. Twins are masked.

    Args:
        token_size: number of values in a token; 0: as many as the longest channel has. A longer channel takes several
            tokens.
        window: number of tokens in a sample; 0: all tokens of a model. Windows do not overlap, except that the last one
            ends with the sequence and may overlap the one before.
        precision: 16 or 32 bits per value.
        standardize: subtract the mean and divide by the deviation of each layer, fitted on the train split.
        align: put hidden units into a canonical order.
        dataset_pt: write one file ``dataset.pt`` instead of a file per sample.
        weight_threshold: states that have a weight with a larger absolute value, or one that is not finite, are left
            out; a warning says how many.
        progress: called with the number of states of each piece.

    Raises:
        StorageUsageError: ``folder`` is not empty, no state matches, or an option has an impossible value. Nothing was
            written.
    """
    require_classification(zoo, "export-sane")
    if precision not in PRECISIONS or token_size < 0 or window < 0:
        raise StorageUsageError(
            f"precision {precision}, token size {token_size}, window {window}: expected 16 or 32 bits, sizes from 0 on"
        )
    table, positions = token_places(zoo.layout, token_size or None)
    starts = _window_starts(len(table), window)
    chosen = {split: zoo.wanted(epochs, models, split, where, weight_threshold) for split in SPLITS}
    if not any(here for wanted in chosen.values() for here in wanted.values()):
        raise EpochNotPresent(f"zoo {zoo.name!r}: no state matches the selection")
    labels = _properties(zoo)
    left_out = 0
    counts: dict[str, int] = {}
    with fresh_folder(Path(folder)) as root:
        norms = _Standardization.fit(zoo, _finite(zoo, chosen["train"], align)) if standardize else None
        cut = [slice(start, start + window if window else None) for start in starts]
        windows = {
            "m": np.stack([(table >= 0)[here] for here in cut]),
            "p": np.stack([positions[here] for here in cut]),
        }
        target: _Target = _DatasetFile(root, windows) if dataset_pt else _SampleFiles(root, windows)
        for split, wanted in chosen.items():
            num_wanted = sum(len(here) for here in wanted.values())
            num_read = 0
            target.begin(split, num_wanted * len(starts), PRECISIONS[precision])
            for states in _finite(zoo, wanted, align):
                values = states.values if norms is None else norms.apply(states.values)
                for model, epoch, vector in zip(states.models.tolist(), states.epochs.tolist(), values, strict=True):
                    tokens = np.append(vector, np.float32(0))[table].astype(PRECISIONS[precision])
                    target.add([tokens[here] for here in cut], model, epoch, labels[model, epoch])
                num_read += len(states)
                if progress is not None:
                    progress(len(states))
            left_out += num_wanted - num_read
            counts[split] = num_read * len(starts)
            info = {
                "zoo": zoo.name,
                "run": zoo.manifest.run,
                "num_samples": num_read,
                "supersample": len(starts),
                "properties": list(RESULTS),
                "epoch_list": sorted(epoch for epoch, here in wanted.items() if here),
                "map_to_canonical": align,
                "standardize": standardize,
                "windowsize": window or len(table),
                "tokensize": table.shape[1],
                "precision": precision,
                "split": split,
                "max_positions": positions.max(axis=0).tolist(),
            }
            (root / f"dataset_info_{split}.json").write_text(_json(info))
            layers = {"mode": None} if norms is None else {**norms.to_json(), "mode": "standardize"}
            (root / f"dataset_normalization_{split}.json").write_text(_json(layers))
        target.close()
    return Samples(counts, len(table), table.shape[1], left_out)


def _window_starts(num_tokens: int, window: int) -> list[int]:
    if window == 0 or window >= num_tokens:
        return [0]
    return sorted({*range(0, num_tokens - window + 1, window), num_tokens - window})


def _finite(zoo: Zoo, wanted: Wanted, align: bool) -> Iterator[States]:
    """The wanted states that are finite, in pieces."""
    if not any(wanted.values()):
        return
    for states in pieces(zoo, wanted, masked=True):
        keep = np.isfinite(states.values).all(axis=1)
        values = states.values if keep.all() else states.values[keep]
        if align:
            values = align_canonical(values, zoo.layout, zoo.symmetries)
        yield States(values, states.models[keep], states.epochs[keep], states.layout)


class _Target(Protocol):
    """Writes samples."""

    def begin(self, split: str, max_samples: int, dtype: type[np.floating[Any]]) -> None:
        """Begin a split, which has at most ``max_samples`` samples."""
        ...

    def add(self, tokens: list[NDArray[Any]], model: int, epoch: int, props: NDArray[np.float32]) -> None:
        """Add the samples of one state, one per window."""
        ...

    def close(self) -> None: ...


class _SampleFiles:
    """A folder ``dataset_torch.SPLIT`` with a file per sample."""

    def __init__(self, root: Path, windows: Mapping[str, NDArray[Any]]) -> None:
        self._root, self._windows = root, windows

    def begin(self, split: str, max_samples: int, dtype: type[np.floating[Any]]) -> None:
        self._folder = self._root / f"dataset_torch.{split}"
        self._folder.mkdir()
        self._number = 0

    def add(self, tokens: list[NDArray[Any]], model: int, epoch: int, props: NDArray[np.float32]) -> None:
        for place, values in enumerate(tokens):
            name = f"sample_{self._number}"
            sample = {"w": values, **{part: array[place] for part, array in self._windows.items()}, "props": props}
            (self._folder / f"{name}.pt").write_bytes(value_bytes(sample, name))
            self._number += 1

    def close(self) -> None:
        pass


class _DatasetFile:
    """One file ``dataset.pt``: a dict of ``trainset``, ``valset`` and ``testset``, plain dicts of tensors.

    ``w`` [N, T, S] holds the tokens of all samples. ``m`` [W, T, S] and ``p`` [W, T, 3] hold the masks and positions of
    the W windows; sample n has window n modulo W. ``properties`` holds a tensor [N] for each property, and also for
    ``model`` and ``epoch``.
    """

    def __init__(self, root: Path, windows: Mapping[str, NDArray[Any]]) -> None:
        self._root, self._windows = root, windows
        self._sets: dict[str, dict[str, Any]] = {}
        self._scratch: list[Path] = []

    def begin(self, split: str, max_samples: int, dtype: type[np.floating[Any]]) -> None:
        self._finish()
        self._split, self._number = split, 0
        self._scratch.append(self._root / f".{split}")
        shape = (max(1, max_samples), *self._windows["m"].shape[1:])  # a memory map cannot be empty
        self._tokens = np.memmap(self._scratch[-1], dtype, "w+", shape=shape)
        self._states: list[tuple[int, int, NDArray[np.float32]]] = []

    def add(self, tokens: list[NDArray[Any]], model: int, epoch: int, props: NDArray[np.float32]) -> None:
        for values in tokens:
            self._tokens[self._number] = values
            self._states.append((model, epoch, props))
            self._number += 1

    def close(self) -> None:
        self._finish()
        write_value(self._root / "dataset.pt", self._sets)
        self._sets.clear()
        del self._tokens
        for path in self._scratch:
            path.unlink()

    def _finish(self) -> None:
        """Keep the samples of the split that was begun before, if any."""
        if not self._scratch:
            return
        props = np.array([props for _, _, props in self._states], np.float32).reshape(-1, len(RESULTS))
        properties: dict[str, Any] = {name: np.ascontiguousarray(props[:, n]) for n, name in enumerate(RESULTS)}
        properties["model"] = np.array([model for model, _, _ in self._states], np.int32)
        properties["epoch"] = np.array([epoch for _, epoch, _ in self._states], np.int32)
        samples = {"w": self._tokens[: self._number], **self._windows, "properties": properties}
        self._sets[f"{self._split}set"] = samples


def _properties(zoo: Zoo) -> dict[tuple[int, int], NDArray[np.float32]]:
    """The properties of each state by (model, epoch). An unknown property is NaN."""
    table = zoo.labels(columns=["model", *RESULTS.values()])
    columns = [table[column].to_pylist() for column in RESULTS.values()]
    values = np.array([[math.nan if v is None else v for v in column] for column in columns], np.float32).T
    keys = zip(table["model"].to_pylist(), table["epoch"].to_pylist(), strict=True)
    return dict(zip(keys, np.ascontiguousarray(values), strict=True))


@dataclass(frozen=True)
class _Standardization:
    """Mean and deviation of each layer, for weights and biases together.

    As in SANE, means and variances of single states are averaged over all states.
    """

    layers: dict[str, tuple[float, float]]
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    @classmethod
    def fit(cls, zoo: Zoo, batches: Iterator[States]) -> "_Standardization":
        names = zoo.manifest.state_dict_names["plain"]
        groups: dict[int, list[NDArray[np.intp]]] = {}
        for layer, _, columns in rows_of(zoo.layout):
            groups.setdefault(layer, []).append(columns)
        columns_of = {layer: np.concatenate(parts) for layer, parts in groups.items()}
        weights = [e for e in zoo.layout.entries if e.name.endswith(".weight") and len(e.shape) > 1]
        sums = np.zeros((len(columns_of), 2))
        count = 0
        for states in batches:
            count += len(states)
            for layer, columns in columns_of.items():
                values = states.values[:, columns].astype(np.float64)
                sums[layer, 0] += values.mean(axis=1).sum()
                sums[layer, 1] += values.var(axis=1, ddof=1).sum()
        if count == 0:
            raise StorageUsageError(
                f"zoo {zoo.name!r}: no finite state of the train split to standardise by; ask for more, or not to"
            )
        mean, deviation = np.zeros(zoo.layout.size, np.float32), np.ones(zoo.layout.size, np.float32)
        layers = {}
        for layer, columns in columns_of.items():
            mu, sigma = sums[layer, 0] / count, math.sqrt(sums[layer, 1] / count) or 1.0
            mean[columns], deviation[columns] = mu, sigma
            layers[names[weights[layer].name]] = (mu, sigma)
        return cls(layers, mean, deviation)

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return (values - self.mean) / self.deviation

    def to_json(self) -> dict[str, dict[str, float]]:
        return {name: {"mean": mu, "std": sigma} for name, (mu, sigma) in self.layers.items()}


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"
