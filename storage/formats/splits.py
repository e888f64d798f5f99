"""The split of each model, which depends on its root ancestor and the split seed alone. Pure."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..canonical import canonical_json
from ..errors import FormatError

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")

TRAIN_BELOW = 70 * 2**64 // 100
VAL_BELOW = 85 * 2**64 // 100
FIRST_ROWS = 20  # no split of a root zoo with these rows is empty


@dataclass(frozen=True, slots=True)
class SplitRule:
    """The rule by which models are split 70/15/15.

    ``hash``: by a hash of (root zoo, model or group, seed). ``reference``: the reference's shuffle of the full plan in
    index order with seed 42; it moves when the zoo is extended. ``recorded``: as somebody else has split imported
    models, row by row. ``group`` keeps models of one seed, or of one cell of the grid, together (hash only).
    """

    kind: Literal["hash", "reference", "recorded"] = "hash"
    seed: int = 42
    group: Literal["seed", "cell"] | None = None

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "seed": self.seed, "group": self.group, "ratios": [0.70, 0.15, 0.15]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SplitRule":
        kind, group = value.get("kind"), value.get("group")
        if kind not in ("hash", "reference", "recorded") or group not in (None, "seed", "cell"):
            raise FormatError(f"split rule {str(value)[:100]} is not one of this format")
        return cls(kind, int(value["seed"]), group)


def assign_splits(
    rule: SplitRule,
    root_zoo: str,
    root_models: Sequence[int],
    rows: Mapping[int, Mapping[str, Any]],
    num_root_models: int,
) -> list[SplitName]:
    """Split of each of ``root_models``.

    Independent of order and of which other models are asked about; stable when the root zoo is extended (``hash``).

    Args:
        root_zoo: name of the zoo that the models descend from without further parents.
        root_models: their indices there.
        rows: hyperparameters by root index; needed for groups only, then of ``root_models`` and rows 0..19; and, as
            ``split``, what was recorded.
        num_root_models: models in the root zoo's full plan; needed by ``reference`` only.
    """
    if rule.kind == "recorded":
        return [rows[model]["split"] for model in root_models]
    if rule.kind == "reference":
        by_model = _reference(num_root_models, rule.seed)
        return [by_model[model] for model in root_models]
    corrections = _first_rows(rule, root_zoo, rows)
    splits = []
    for model in root_models:
        identity = _identity(rule, model, rows)
        splits.append(corrections.get(_text(identity)) or _by_hash(rule, root_zoo, identity))
    return splits


def position(rule: SplitRule, root_zoo: str, identity: Any) -> int:
    """First 8 bytes, big-endian, of SHA-256 over the canonical JSON of [root zoo, identity, seed]: 0 to 2**64 - 1."""
    return int.from_bytes(hashlib.sha256(canonical_json([root_zoo, identity, rule.seed])).digest()[:8], "big")


def _by_hash(rule: SplitRule, root_zoo: str, identity: Any) -> SplitName:
    place = position(rule, root_zoo, identity)
    return "train" if place < TRAIN_BELOW else "val" if place < VAL_BELOW else "test"


def _identity(rule: SplitRule, model: int, rows: Mapping[int, Mapping[str, Any]]) -> Any:
    """The index of a model, or the values that all models of its group share."""
    if rule.group is None:
        return int(model)
    row = rows[model]
    if rule.group == "seed":
        return {"seed": int(row["seed"])}
    later = {name: row[name] for name, default in LATER_CELL.items() if row.get(name, default) != default}
    return {"cell": {name: row.get(name) for name in CELL} | later}


CELL = (
    "activation", "dropout_ratio", "initializer", "learning_rate", "optimizer", "weight_decay", "momentum", "nesterov"
)  # fmt: skip


LATER_CELL = {"train_fraction": 1.0, "label_noise": 0.0, "initial_std": 1.0}
"""Hyperparameters that came later: they separate cells only where a row has another value than this default."""


def _first_rows(rule: SplitRule, root_zoo: str, rows: Mapping[int, Mapping[str, Any]]) -> dict[str, SplitName]:
    """Corrections that leave no split empty among rows 0..19 of the root zoo.

    Without a test row, the row with the highest position becomes one; then, without a val row, the highest of the
    train rows; then, without a train row, the lowest of all. With groups, groups take the place of rows; fewer than
    three cannot fill three splits and stay as they are.
    """
    if rule.group is None:
        identities: list[Any] = list(range(FIRST_ROWS))
    else:
        identities = [_identity(rule, model, rows) for model in range(FIRST_ROWS) if model in rows]
    unique = {_text(identity): identity for identity in identities}
    if len(unique) < len(SPLITS):
        return {}
    split = {text: _by_hash(rule, root_zoo, identity) for text, identity in unique.items()}
    order = sorted(unique, key=lambda text: (position(rule, root_zoo, unique[text]), text))
    corrections: dict[str, SplitName] = {}
    if "test" not in split.values():
        corrections[order[-1]] = split[order[-1]] = "test"
    if "val" not in split.values():
        highest = [text for text in order if split[text] == "train"][-1]
        corrections[highest] = split[highest] = "val"
    if "train" not in split.values():
        corrections[order[0]] = "train"
    return corrections


def _reference(num_models: int, seed: int) -> dict[int, SplitName]:
    order = list(range(num_models))
    random.Random(seed).shuffle(order)
    num_train, num_val = int(0.7 * num_models), int(0.15 * num_models)
    return {
        model: "train" if place < num_train else "val" if place < num_train + num_val else "test"
        for place, model in enumerate(order)
    }


def _text(identity: Any) -> str:
    return canonical_json(identity).decode()
