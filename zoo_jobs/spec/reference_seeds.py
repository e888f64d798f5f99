"""Reads the seeds of a published random-seed zoo from its tree.

The reference drew these seeds from an unseeded generator, so they cannot be computed.
"""

import json
import re
from pathlib import Path
from typing import Any

from ..errors import InputError
from .grid import ModelRow, rows
from .zoo import ZooSpec

_TRIAL = re.compile(r"NN_tune_trainable_(?:from_checkpoint_)?[0-9a-f]+_(\d{5})_")
MAX_PARAMS_BYTES = 1 << 20

PARAMS = {
    "model::nlin": "activation",
    "model::dropout": "dropout_ratio",
    "model::init_type": "initializer",
    "optim::optimizer": "optimizer",
    "optim::lr": "learning_rate",
    "optim::wd": "weight_decay",
}
"""Keys of the reference's params.json. It writes leakyrelu for our activation leaky_relu."""


def imported_seeds(spec: ZooSpec, tree: Path) -> tuple[int, ...]:
    """The seed of every model of ``spec``, from the params.json of the trial folders under ``tree``.

    A trial's number is its model index: both enumerate the grid in the same order. Every trial's hyperparameters are
    compared with the row of that index, so a tree of another grid is refused.

    Raises:
        InputError: a trial is missing, exists twice, cannot be read or has other hyperparameters.
    """
    if spec.draws is not None:
        raise InputError(f"{spec.name}: its hyperparameters are drawn; seeds are imported into grids")
    if spec.seeds.values is not None:
        raise InputError(f"{spec.name}: seeds are stated ({spec.seeds}); only a zoo of random seeds can import them")
    expected = rows(spec)[: spec.num_base_models]
    seeds: dict[int, int] = {}
    for folder in sorted(_folders(tree)):
        match = _TRIAL.match(folder.name)
        if match is None:
            continue
        index = int(match[1])
        if index in seeds:
            raise InputError(f"{tree}: trial {index} exists twice")
        if index >= len(expected):
            raise InputError(f"{tree}: trial {index} is beyond {spec.name}, which has models 0:{len(expected)}")
        seeds[index] = _seed(folder / "params.json", expected[index])
    missing = [row.index for row in expected if row.index not in seeds]
    if missing:
        raise InputError(f"{tree}: {len(missing)} of {len(expected)} trials are missing, the first is {missing[0]}")
    return tuple(seeds[row.index] for row in expected)


def with_imported_seeds(spec: ZooSpec, tree: Path, name: str | None) -> ZooSpec:
    """A new spec with the seeds of ``tree``. Raises InputError if ``name`` is None, and like ``imported_seeds``."""
    if name is None or name == spec.name:
        raise InputError(f"imported seeds make another zoo than {spec.name!r}: name it, e.g. with --name my-zoo")
    value = spec.to_json() | {
        "name": name,
        "description": f"{spec.description.rstrip('.')}; seeds of the published models.",
        "source": f"{spec.name}, seeds read from the params.json of a published tree",
        "imported_seeds": list(imported_seeds(spec, tree)),
    }
    return ZooSpec.from_json(value, f"{spec.name} with imported seeds")


def _folders(tree: Path) -> list[Path]:
    try:
        return [entry for entry in tree.iterdir() if entry.is_dir()]
    except OSError as error:
        raise InputError(f"{tree}: {error.strerror or error}; expected the folder of a zoo's trials") from None


def _seed(path: Path, row: ModelRow) -> int:
    params = _params(path)
    for key, name in PARAMS.items():
        value, wanted = params.get(key), getattr(row, name)
        if isinstance(value, str):
            value = {"leakyrelu": "leaky_relu"}.get(value.lower(), value.lower())
        if value != wanted:
            raise InputError(f"{path}: {key} is {params.get(key)!r}, model {row.index} of the grid has {wanted!r}")
    seed = params.get("seed")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InputError(f"{path}: seed is {seed!r}, not an integer")
    return seed


def _params(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_PARAMS_BYTES:
            raise InputError(f"{path}: larger than {MAX_PARAMS_BYTES} bytes, no params.json of a trial")
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not JSON") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object")
    return value
