"""Commits a part: first its data objects, then one small record by a conditional put.

A driver may die between any two requests, a reply may be lost, and another driver may commit the same part first. In
each of these cases there is at most one record of the part, the objects that it names exist, and no object that another
record names is deleted.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConflictingRecords, FormatError, PreconditionFailed, StorageError
from ..formats.labels import FAULT_REASONS, part_columns, part_values
from ..formats.record import STATE_FIELDS, Faulty, PartRecord, Totals, is_ascending
from ..formats.tables import encode_table, model_digests
from ..formats.tensors import canonical_nan, encode_pieces, pack_mask, tensor_name
from ..keys import RecordKey, parse_record_key, record_key
from ..stores.objects import ObjectRef, put_object, put_pieces
from ..stores.protocol import ObjectStore
from ..stores.threads import run_in_thread
from .marks import put_missing

logger = logging.getLogger(__name__)

# The arrays that are equal if two engines give equal trajectories. Moments and counters may differ between engines.
_COMPARED_STATE = ("weights", "log_sigma2", "buffers")


@dataclass(frozen=True)
class PartData:
    """The results of training one part. M = members, D = values per model.

    Attributes:
        unit: smallest model index of the whole unit.
        members: ascending model indices, one for each row of every array.
        epochs: the epochs of the part, in order.
        fields: arrays [M, ...] by field and epoch, for the epochs that are kept. "" holds weights [M, D] float32;
            ".log_sigma2" float32; ".mask" bool, true where the value is used (stored as bits); ".buffers" float32;
            ".counters" int64.
        labels: values by column (storage/formats/labels.py). There is one row for each model and epoch, in ascending
            order of the model and then of the epoch.
        state: the arrays that training continues from, each [M, ...], with ``faulty_epoch`` int32 (-1: none) and
            ``faulty_reason`` int8 (0 nan, 1 inf, -1 none). Empty for a refill.
        numerics: JSON: the engine, its version, and the settings that the numbers depend on.
        samples, seconds: number of training samples, and the time that the training took.
    """

    unit: int
    members: tuple[int, ...]
    part: int
    epochs: range
    fields: Mapping[str, Mapping[int, NDArray[Any]]]
    labels: Mapping[str, Any]
    state: Mapping[str, NDArray[Any]]
    numerics: dict[str, Any]
    samples: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Committed:
    """``won`` is false if another attempt committed first. Its values equal ours, unless our record has parents."""

    record: PartRecord
    won: bool


def commit_part(
    store: ObjectStore,
    run: str,
    data: PartData,
    attempt: str,
    *,
    after: PartRecord | None = None,
    parents: Sequence[str] = (),
    refill: bool = False,
) -> Committed:
    """Commit ``data``. Of several drivers that commit the same part, one succeeds.

    Args:
        attempt: id of the driver's attempt. A record with this id is ours, even if the reply to its put was lost.
        after: the last record of exactly these members, if the caller has it; None: it is looked up.
        parents: keys of the records that the state came from, for engines whose numbers depend on how models are
            grouped. If another attempt committed other values first, its record stays, and the caller continues from
            it.
        refill: whether ``data`` holds weights of epochs that were not kept at first. Its labels must equal those of the
            first record.

    Raises:
        ConflictingRecords: a record of the same members and part has other weights or labels.
        FormatError: the shapes, rows or epochs of ``data`` do not fit together.
    """
    check_part(data, refill)
    key = record_key(run, data.unit, data.members, data.part, refill)
    if after is None and data.part > 0 and not refill:
        after = _last_before(store, key)
    labels = part_values(data.labels, len(data.members) * len(data.epochs))
    columns = part_columns(labels)
    fields = encode_fields(data.fields)
    arrays = {name: canonical_nan(array) for name, array in data.state.items()}
    state_fields = _kept_fields(data)
    own = {name: array for name, array in arrays.items() if name not in state_fields}

    def put_weights() -> ObjectRef:
        return put_pieces(store, encode_pieces(fields), "safetensors")

    def put_labels() -> ObjectRef:
        return put_object(store, table, "parquet")

    def put_state() -> ObjectRef:
        provenance = {"kind": "state", "run": run, "members": list(data.members), "part": data.part}
        return put_pieces(store, encode_pieces(own, provenance), "safetensors")

    weights_put = run_in_thread(put_weights) if fields else None
    state_put = run_in_thread(put_state) if arrays else None
    table = encode_table(columns, labels)
    puts: dict[ObjectRef, Callable[[], ObjectRef]] = {put_labels(): put_labels}
    (label_ref,) = puts
    weight_digests = _weight_digests(arrays or fields, len(data.members))
    label_digests = tuple(model_digests(columns, labels, len(data.members)))
    weights = None if weights_put is None else weights_put()
    state = None if state_put is None else state_put()
    puts |= {} if weights is None else {weights: put_weights}
    puts |= {} if state is None else {state: put_state}
    record = PartRecord(
        run=run,
        unit=data.unit,
        members=data.members,
        part=data.part,
        epochs=(data.epochs.start, data.epochs.stop),
        kept=tuple(sorted(data.fields.get("", {}))),
        weights=weights,
        labels=label_ref,
        state=state,
        weight_digests=weight_digests,
        label_digests=label_digests,
        faulty=_faulty(data),
        numerics=data.numerics,
        attempt=attempt,
        samples=data.samples,
        seconds=data.seconds,
        totals=Totals(),
        parents=tuple(parents),
        refill=refill,
        twin="kl" in labels,
        state_fields=state_fields,
    )
    return commit_record(store, _with_totals(record, after), puts, after)


def commit_record(
    store: ObjectStore,
    record: PartRecord,
    puts: Mapping[ObjectRef, Callable[[], object]],
    after: PartRecord | None = None,
) -> Committed:
    """Commit ``record``, whose objects have been written.

    A collection may have marked some of the objects for deletion, because a dead attempt wrote them before. The marks
    are removed before the record is written, so that a crash leaves no record without its objects. They are removed
    again after the record is written, in case a day has passed meanwhile.

    Args:
        puts: for each object that the record names, a function that writes it again.
        after: the last record of the same members, whose state is deleted.

    Raises:
        ConflictingRecords: as ``commit_part``.
    """
    put_missing(store, puts)
    won = True
    try:
        store.put(str(record.key), record.to_json(), if_absent=True)
    except PreconditionFailed:
        standing = PartRecord.from_json(store.get(str(record.key))[0], record.key)
        won = standing == record
        if not won and not record.parents:
            refuse_conflict(record, standing)
        record = standing
    if won:
        put_missing(store, puts)
        if not record.refill and after is not None and after.part < record.part:
            _drop_state(store, after, record)
    return Committed(record, won)


def refuse_conflict(ours: PartRecord, theirs: PartRecord) -> None:
    """Raises ConflictingRecords if two records say different things about a model that both hold."""
    for what in ("weight", "label"):
        left = dict(zip(ours.members, getattr(ours, f"{what}_digests"), strict=True))
        right = dict(zip(theirs.members, getattr(theirs, f"{what}_digests"), strict=True))
        if ours.refill != theirs.refill and what == "weight":
            continue  # a refill has no state to take the digest from
        for model in sorted(left.keys() & right.keys()):
            if left[model] != right[model]:
                raise ConflictingRecords(
                    f"model {model}, part {ours.part}: {what}s of attempt {ours.attempt} ({left[model]}) differ from "
                    f"those of attempt {theirs.attempt} ({right[model]}) in {theirs.key}; engines "
                    f"{_engine(ours)} and {_engine(theirs)} do not give equal bits, so the run ends here"
                )


def check_part(data: PartData, refill: bool = False) -> None:
    """Raises FormatError unless all shapes, rows and epochs fit together."""
    where = f"unit {data.unit}, part {data.part}"
    members, epochs = data.members, list(data.epochs)
    if not members or not is_ascending(members) or members[0] < data.unit:
        raise FormatError(f"{where}: members must be ascending and not below the unit's number")
    if not epochs or data.epochs.step != 1 or epochs[0] < 0:
        raise FormatError(f"{where}: epochs {data.epochs} are not consecutive")
    for name, by_epoch in data.fields.items():
        for epoch, array in by_epoch.items():
            if epoch not in data.epochs or array.shape[:1] != (len(members),):
                raise FormatError(f"{where}: field {name!r} at epoch {epoch} has shape {array.shape}")
    weights = data.fields.get("", {})
    if any(set(by_epoch) != set(weights) for by_epoch in data.fields.values()):
        raise FormatError(f"{where}: the fields are not there at the same epochs")
    expected = (np.repeat(members, len(epochs)), np.tile(epochs, len(members)))
    for name, wanted in zip(("model", "epoch"), expected, strict=True):
        if not np.array_equal(np.asarray(data.labels.get(name, ())), wanted):
            raise FormatError(f"{where}: label column {name!r} is not model-major and ascending")
    if not data.state and not refill:
        raise FormatError(f"{where}: the state is missing")
    for name, array in data.state.items():
        if array.shape[:1] != (len(members),):
            raise FormatError(f"{where}: state {name!r} has shape {array.shape}, expected {len(members)} rows")
    if data.state and not {"weights", "step", "faulty_epoch", "faulty_reason"} <= set(data.state):
        raise FormatError(f"{where}: the state lacks weights, step, faulty_epoch or faulty_reason")


def encode_fields(fields: Mapping[str, Mapping[int, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The tensors of a data object or shard, ordered by field and epoch. Masks become bits, NaN becomes canonical."""
    tensors = {}
    for name in sorted(fields):
        for epoch in sorted(fields[name]):
            array = fields[name][epoch]
            tensors[tensor_name(epoch, name)] = pack_mask(array) if array.dtype == np.bool_ else canonical_nan(array)
    return tensors


def _kept_fields(data: PartData) -> dict[str, str]:
    """Arrays of the state that are not written again, because they equal fields of the only epoch that the part keeps.

    That epoch must be the last of the part. If a part keeps several epochs, the arrays are written again, because
    otherwise a driver that continues would have to read all these epochs.
    """
    last = data.epochs[-1]
    if not data.state or set(data.fields.get("", ())) != {last}:
        return {}
    fields = {}
    for name, field_name in STATE_FIELDS.items():
        kept = data.fields.get(field_name)
        if kept is not None and name in data.state and _same(data.state[name], kept[last]):
            fields[name] = field_name
    return fields


def _same(left: NDArray[Any], right: NDArray[Any]) -> bool:
    """True if two arrays hold the same bits. Usually they are the same array, which is tested first."""
    if left is right:
        return True
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.__array_interface__["data"] == right.__array_interface__["data"] and left.strides == right.strides:
        return True
    words = f"u{left.dtype.itemsize}"
    return np.array_equal(np.ascontiguousarray(left).view(words), np.ascontiguousarray(right).view(words))


def _weight_digests(arrays: Mapping[str, NDArray[Any]], num_members: int) -> tuple[str, ...]:
    """One digest per member, of the compared arrays of a state or of all fields of a refill. Their NaN is canonical."""
    if "weights" in arrays:
        arrays = {name: arrays[name] for name in _COMPARED_STATE if name in arrays}
    little = [
        (f"{n}\n".encode(), np.ascontiguousarray(a, a.dtype.newbyteorder("<"))) for n, a in sorted(arrays.items())
    ]
    digests = []
    for row in range(num_members):
        digest = hashlib.sha256()
        for name, array in little:
            digest.update(name)
            digest.update(array[row])
        digests.append(digest.hexdigest()[:16])
    return tuple(digests)


def _faulty(data: PartData) -> tuple[Faulty, ...]:
    if not data.state:
        return ()
    epochs, reasons = data.state["faulty_epoch"], data.state["faulty_reason"]
    name_of = dict(enumerate(FAULT_REASONS))
    return tuple(
        Faulty(model, int(epoch), name_of[int(reason)])
        for model, epoch, reason in zip(data.members, epochs, reasons, strict=True)
        if epoch >= 0
    )


def _with_totals(record: PartRecord, after: PartRecord | None) -> PartRecord:
    num_epochs = record.epochs[1] - record.epochs[0]
    own = Totals(1, len(record.members) * num_epochs, record.samples, record.seconds, record.num_bytes)
    return replace(record, totals=(after.totals if after is not None else Totals()) + own)


def _last_before(store: ObjectStore, key: RecordKey) -> PartRecord | None:
    keys = [parse_record_key(stat.key) for stat in store.list(key.prefix)]
    before = [k for k in keys if k is not None and not k.refill and k.part < key.part]
    if not before:
        return None
    last = max(before, key=lambda k: k.part)
    return PartRecord.from_json(store.get(str(last))[0], last)


def _drop_state(store: ObjectStore, before: PartRecord, record: PartRecord) -> None:
    """Delete the state that ``record`` supersedes for exactly its members. If that fails, gc deletes it later."""
    if before.state is None or before.members != record.members or before.state == record.state:
        return
    try:
        store.delete(before.state.key)
    except StorageError as error:
        logger.warning("a superseded state stays until gc", extra={"key": before.state.key, "error": str(error)})


def _engine(record: PartRecord) -> str:
    return str(record.numerics.get("engine", "?"))
