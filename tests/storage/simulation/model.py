"""A minimal zoo for the protocol: three models, two parts, objects of a few bytes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from zooforge.storage.canonical import canonical_json, sha256_hex
from zooforge.storage.errors import IncompleteRun
from zooforge.storage.formats.layout import Layout
from zooforge.storage.formats.manifest import FieldEntry, Manifest, TableEntry
from zooforge.storage.formats.record import PartRecord, Totals
from zooforge.storage.formats.shards import ShardEntry, TensorEntry, from_ranges, group_rows, to_ranges
from zooforge.storage.formats.splits import SplitRule
from zooforge.storage.formats.tensors import encode, tensor_name
from zooforge.storage.publish.head import states_of
from zooforge.storage.publish.seal import Version, seal
from zooforge.storage.runs.commit import commit_record
from zooforge.storage.runs.ledger import Ledger, read_ledger
from zooforge.storage.stores.objects import ObjectRef, get_object, put_object, ref_of
from zooforge.storage.stores.protocol import ObjectStore

RUN = "0123456789abcdef" * 2
ZOO = "tiny-zoo"
PIECES = ((0, 1), (2,))
MODELS = (0, 1, 2)
LAST_PART = 1
BLOCK = 2  # models per shard


@cache
def part_objects(members: tuple[int, ...], part: int) -> dict[str, bytes]:
    """The bytes of weights, labels and state of a part, which depend only on ``members`` and ``part``."""
    num = len(members)
    state = {
        "weights": np.full((num, 1), part, np.float32),
        "step": np.full(num, part, np.int64),
        "faulty_epoch": np.full(num, -1, np.int32),
        "faulty_reason": np.full(num, -1, np.int8),
    }
    provenance = {"kind": "state", "run": RUN, "members": list(members), "part": part}
    return {
        "weights": canonical_json(["weights", members, part]),
        "labels": canonical_json(["labels", members, part]),
        "state": bytes(encode(state, provenance)),
    }


def train_part(store: ObjectStore, ledger: Ledger, members: tuple[int, ...], attempt: str) -> None:
    """Commit the next part of ``members``, starting from the state of the previous part."""
    part = ledger.next_part(members[0])
    if part:
        state = ledger.load_state(members)
        assert state.arrays["step"].tolist() == [part - 1] * len(members)
    contents = part_objects(members, part)
    refs: dict[str, ObjectRef] = {}
    puts: dict[ObjectRef, Callable[[], object]] = {}
    for name, kind in (("weights", "safetensors"), ("labels", "parquet"), ("state", "safetensors")):

        def put(name: str = name, kind: Any = kind) -> ObjectRef:
            return put_object(store, contents[name], kind)

        refs[name] = put()
        puts[refs[name]] = put
    after = ledger.last_record(members[0], members)
    own = Totals(1, len(members), len(members), 1.0, 10)
    record = PartRecord(
        run=RUN,
        unit=members[0],
        members=members,
        part=part,
        epochs=(part, part + 1),
        kept=(part,),
        weights=refs["weights"],
        labels=refs["labels"],
        state=refs["state"],
        weight_digests=tuple(f"{m:08x}{part:08x}" for m in members),
        label_digests=tuple(f"{m:08x}{part:08x}" for m in members),
        faulty=(),
        numerics={},
        attempt=attempt,
        samples=len(members),
        seconds=1.0,
        totals=(after.totals if after is not None else Totals()) + own,
    )
    commit_record(store, record, puts, after)


def description() -> Any:
    return SimpleNamespace(name=ZOO)


def publish(store: ObjectStore) -> Version:
    """Publish the committed states as a version, with the real ``seal``."""
    ledger = read_ledger(store, RUN)
    return seal(store, description(), lambda base: build(store, ledger, base))


def build(store: ObjectStore, ledger: Ledger, base: Manifest | None) -> Manifest:
    """The states of the current version together with all committed states, as ``vectorize`` publishes them."""
    states = {} if base is None else {epoch: set(models) for epoch, models in states_of(base).items()}
    for model in ledger.models:
        for epoch in range(ledger.num_epochs(model)):
            if model in states.get(epoch, ()):
                continue
            key = ledger.holder(model, epoch)
            assert key is not None
            weights = ledger.record(key).weights
            assert weights is not None
            get_object(store, weights, str(key))
            states.setdefault(epoch, set()).add(model)
    if not states:
        raise IncompleteRun("nothing is committed yet")
    known = {} if base is None else {shard.first_model: shard for shard in base.shards}
    return manifest_of(states, known, lambda data, kind: put_object(store, data, kind))


def manifest_of(
    states: Mapping[int, set[int]],
    known: Mapping[int, ShardEntry],
    put: Callable[[bytes, Any], ObjectRef] = ref_of,
) -> Manifest:
    """The manifest of ``states`` (epoch to models), a function of these. ``put`` writes shards not in ``known``."""
    models = sorted(set().union(*states.values())) if states else []
    shards = []
    for first in sorted({model - model % BLOCK for model in models}):
        here = {e: sorted(m for m in held if first <= m < first + BLOCK) for e, held in sorted(states.items())}
        here = {epoch: held for epoch, held in here.items() if held}
        rows = group_rows(here)
        if first in known and known[first].rows == rows:
            shards.append(known[first])
        else:
            ref = put(canonical_json(["shard", [[e, here[e]] for e in sorted(here)]]), "safetensors")
            tensors = {tensor_name(epoch): TensorEntry(0, 0, ref.sha256) for epoch in here}
            shards.append(ShardEntry(ref, first, 0, rows, tensors))
    lasts = [[model, max(epoch for epoch, held in states.items() if model in held)] for model in models]
    labels = put(canonical_json(["labels", lasts]), "parquet")
    table = put(canonical_json(["models", models]), "parquet")
    return Manifest(
        zoo=ZOO,
        run=RUN,
        title="",
        source="",
        dataset="",
        architecture={"name": "tiny"},
        planned_models=len(MODELS),
        planned_epochs=LAST_PART,
        models=to_ranges(models),
        num_epochs=max(states, default=0),
        num_states=sum(len(held) for held in states.values()),
        absent=(),
        root_zoo=ZOO,
        parent=None,
        layout=LAYOUT,
        noisy_layout=None,
        layers={},
        state_dict_names={},
        symmetries=[],
        fields={"": FieldEntry("F32", LAYOUT.size)},
        split=SplitRule(),
        split_counts={},
        shard_shape=(BLOCK, 64),
        shards=tuple(shards),
        labels=TableEntry(labels, sum(last + 1 for _, last in lasts), "0" * 64),
        model_table=TableEntry(table, len(models), "0" * 64),
        twin=False,
    )


LAYOUT = Layout.of([("w", (1,))])
WHOLE = {epoch: set(MODELS) for epoch in range(LAST_PART + 1)}
QUIET_SHA256 = sha256_hex(manifest_of(WHOLE, {}).to_json())


class FakeZoo:
    """A published version, as ``pull`` sees it."""

    def __init__(self, store: ObjectStore, manifest: Manifest, wanted: Sequence[int] | None) -> None:
        """``wanted``: epochs to copy; None: all."""
        self.store, self.manifest, self.name = store, manifest, manifest.zoo
        self.models = from_ranges(manifest.models)
        self._wanted = wanted

    def wanted(self, *selectors: Any) -> dict[int, list[int]]:
        return {e: sorted(m) for e, m in states_of(self.manifest).items() if self._wanted is None or e in self._wanted}

    def model_table(self) -> Any:
        raise AssertionError("the part of a zoo is made by part_of")


def part_of(puller: Any, wanted: Mapping[int, Sequence[int]], chosen: Sequence[int]) -> Manifest:
    """Replaces ``_Puller.write`` when a part of a zoo is copied."""
    source = puller.zoo.manifest
    if {e: set(m) for e, m in wanted.items()} == states_of(source):
        for ref in source.refs:
            puller.copy(ref)
        return source

    def put(data: bytes, kind: Any) -> ObjectRef:
        puller.num_read += 1
        return put_object(puller.target, data, kind)

    return replace(manifest_of({e: set(m) for e, m in wanted.items()}, {}, put))
