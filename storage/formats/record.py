"""The commit record of a part: a small create-only object whose existence is the commit. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ..canonical import canonical_json, parse_json
from ..errors import FormatError, NewerFormat
from ..keys import RecordKey, record_key
from ..stores.objects import ObjectRef
from .labels import FaultReason

FORMAT = "zooforge.part"
VERSION = 2
WHOLE_STATE_VERSION = 1  # version of a record whose state object holds the whole state

STATE_FIELDS = {"weights": "", "log_sigma2": ".log_sigma2", "buffers": ".buffers", "counters": ".counters"}
"""Arrays of a training state that are published as well: name in the state to name of the field."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a folder's records, up to and including one of them."""

    parts: int = 0
    model_epochs: int = 0
    samples: int = 0
    seconds: float = 0.0
    bytes: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.parts + other.parts,
            self.model_epochs + other.model_epochs,
            self.samples + other.samples,
            self.seconds + other.seconds,
            self.bytes + other.bytes,
        )


@dataclass(frozen=True, slots=True)
class Faulty:
    """A model whose weights were first not finite at the end of ``epoch``."""

    model: int
    epoch: int
    reason: FaultReason


@dataclass(frozen=True, slots=True)
class PartRecord:
    """One commit. ``members`` are the model indices, ascending: the rows of every array that the record names.

    ``weight_digests`` and ``label_digests`` have one digest per member, so that records of different member sets can be
    compared. ``state_fields`` names the arrays that the state object leaves out, each with the field of ``weights``
    that holds it at the part's last epoch.
    """

    run: str
    unit: int
    members: tuple[int, ...]
    part: int
    epochs: tuple[int, int]  # half-open
    kept: tuple[int, ...]  # epochs whose weights are in ``weights``
    weights: ObjectRef | None
    labels: ObjectRef
    state: ObjectRef | None
    weight_digests: tuple[str, ...]
    label_digests: tuple[str, ...]
    faulty: tuple[Faulty, ...]
    numerics: dict[str, Any]
    attempt: str
    samples: int
    seconds: float
    totals: Totals
    parents: tuple[str, ...] = ()
    refill: bool = False
    twin: bool = False
    state_fields: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> RecordKey:
        return record_key(self.run, self.unit, self.members, self.part, self.refill)

    @property
    def num_bytes(self) -> int:
        return sum(ref.bytes for ref in (self.weights, self.labels, self.state) if ref is not None)

    def to_json(self) -> bytes:
        value: dict[str, Any] = {
            "format": FORMAT,
            "version": WHOLE_STATE_VERSION,
            "run": self.run,
            "unit": self.unit,
            "members": list(self.members),
            "part": self.part,
            "epochs": list(self.epochs),
            "kept": list(self.kept),
            "weights": None if self.weights is None else self.weights.to_json(),
            "labels": self.labels.to_json(),
            "state": None if self.state is None else self.state.to_json(),
            "weight_digests": list(self.weight_digests),
            "label_digests": list(self.label_digests),
            "faulty": [[f.model, f.epoch, f.reason] for f in self.faulty],
            "numerics": self.numerics,
            "attempt": self.attempt,
            "models": len(self.members),
            "samples": self.samples,
            "seconds": self.seconds,
            "bytes": self.num_bytes,
            "totals": {
                "parts": self.totals.parts,
                "model_epochs": self.totals.model_epochs,
                "samples": self.totals.samples,
                "seconds": self.totals.seconds,
                "bytes": self.totals.bytes,
            },
            "parents": list(self.parents),
            "refill": self.refill,
            "twin": self.twin,
            "extra": {},
        }
        if self.state_fields:
            value |= {"version": VERSION, "state_fields": self.state_fields}
        return canonical_json(value)

    @classmethod
    def from_json(cls, data: bytes, key: RecordKey | str) -> "PartRecord":
        """Parse the record read from ``key``. Raises FormatError if the two do not agree, NewerFormat."""
        what = str(key)
        value = parse_json(data, what)
        check_format(value, FORMAT, VERSION, what)
        try:
            members = tuple(map(_index, value["members"]))
            record = cls(
                run=str(value["run"]),
                unit=_index(value["unit"]),
                members=members,
                part=_index(value["part"]),
                epochs=(_index(value["epochs"][0]), _index(value["epochs"][1])),
                kept=tuple(map(_index, value["kept"])),
                weights=_ref(value["weights"], what),
                labels=ObjectRef.from_json(value["labels"], what),
                state=_ref(value["state"], what),
                weight_digests=tuple(value["weight_digests"]),
                label_digests=tuple(value["label_digests"]),
                faulty=tuple(Faulty(_index(m), _index(e), r) for m, e, r in value["faulty"]),
                numerics=value["numerics"],
                attempt=value["attempt"],
                samples=_amount(value["samples"]),
                seconds=_amount(value["seconds"]),
                totals=Totals(**{name: _amount(amount) for name, amount in value["totals"].items()}),
                parents=tuple(value["parents"]),
                refill=value["refill"],
                twin=value["twin"],
                state_fields={} if value["version"] == WHOLE_STATE_VERSION else dict(value["state_fields"]),
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise FormatError(f"{what}: no commit record ({type(error).__name__}: {error})") from None
        if str(record.key) != what:
            raise FormatError(f"{what}: the record says it belongs under {record.key}")
        if not is_ascending(members) or not members:
            raise FormatError(f"{what}: members are not ascending")
        if record.state_fields and (record.weights is None or record.epochs[1] - 1 not in record.kept):
            raise FormatError(f"{what}: the state is said to be in weights that are not there")
        if len(record.weight_digests) != len(members) or len(record.label_digests) != len(members):
            raise FormatError(f"{what}: {len(members)} members have {len(record.weight_digests)} digests")
        return record


def _index(value: Any) -> int:
    """A model, an epoch or a part: an integer that fits into int32."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise ValueError(f"{value!r} is not an index")
    return value


def _amount(value: Any) -> Any:
    """An integer or a finite float that is not negative."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
        raise ValueError(f"{value!r} is not an amount")
    return value


def is_ascending(members: Sequence[int]) -> bool:
    return all(a < b for a, b in pairwise(members)) and (not members or members[0] >= 0)


def check_format(value: Any, name: str, version: int, what: str) -> None:
    """Raises FormatError unless ``value`` is a ``name``, NewerFormat if of a later version than ``version``."""
    if not isinstance(value, dict) or value.get("format") != name or not isinstance(value.get("version"), int):
        raise FormatError(f"{what}: expected a {name} object")
    if value["version"] > version:
        raise NewerFormat(
            f"{what}: format {name}/{value['version']} is newer than {name}/{version}, which this zooforge reads; "
            "install a later zooforge"
        )
    if value["version"] < 1:
        raise FormatError(f"{what}: format version {value['version']} never existed")


def _ref(value: Any, what: str) -> ObjectRef | None:
    return None if value is None else ObjectRef.from_json(value, what)
