"""The manifest of a published version: every object by its digest, and all that a reader needs to know. Pure.

Its content depends on spec and weights alone: no time, host, attempt, version number or predecessor.
"""

from dataclasses import dataclass
from typing import Any

from ..canonical import canonical_json, json_integer, json_text, parse_json
from ..errors import FormatError
from ..stores.objects import ObjectRef, is_sha256
from .compression import Compression
from .labels import Column, joined_columns, model_columns, twin_names
from .layout import Layout
from .record import check_format
from .shards import (
    Ranges,
    ShardEntry,
    check_chains,
    count_ranges,
    first_outside,
    from_ranges,
    ranges_from_json,
    ranges_to_json,
)
from .splits import SplitRule
from .tensors import tensor_name

FORMAT = "zooforge.zoo"
VERSION = 3

DTYPES = {"F32": "<f4", "I64": "<i8", "U8": "|u1", "F64": "<f8"}  # NumPy's name of a field's type


@dataclass(frozen=True, slots=True)
class FieldEntry:
    """A field of a state: the type of its tensors, and the number of values that a model has in one."""

    dtype: str
    values: int


@dataclass(frozen=True, slots=True)
class TableEntry:
    """A Parquet object, its number of rows, and the digest over its values (docs/format.md)."""

    ref: ObjectRef
    rows: int
    values_sha256: str


@dataclass(frozen=True, slots=True)
class Parent:
    """The zoo, run and epoch from which the models of a twin zoo come."""

    zoo: str
    run: str
    epoch: int


@dataclass(frozen=True)
class Manifest:
    """See docs/format.md for every field. ``num_epochs`` is the last epoch that any model has.

    ``version`` is that of the format that it was read in; it is written in the same. ``data`` says which images the
    models saw and how they were prepared, ``images`` holds them; None where not known or not published. ``task`` holds
    the facts of another task than classification.
    """

    zoo: str
    run: str
    title: str
    source: str
    dataset: str
    architecture: dict[str, Any]
    planned_models: int
    planned_epochs: int
    models: Ranges
    num_epochs: int
    num_states: int
    absent: tuple[tuple[int, str], ...]
    root_zoo: str
    parent: Parent | None
    layout: Layout
    noisy_layout: Layout | None
    layers: dict[str, list[dict[str, Any]]]
    state_dict_names: dict[str, dict[str, str]]
    symmetries: list[dict[str, Any]]
    fields: dict[str, FieldEntry]
    split: SplitRule
    split_counts: dict[str, int]
    shard_shape: tuple[int, int]
    shards: tuple[ShardEntry, ...]
    labels: TableEntry
    model_table: TableEntry
    twin: bool
    compression: Compression | None = None
    blocks: ObjectRef | None = None
    notes: tuple[str, ...] = ()
    label_columns: tuple[Column, ...] = joined_columns()
    model_columns: tuple[Column, ...] = model_columns()
    data: dict[str, Any] | None = None
    images: ObjectRef | None = None
    task: dict[str, Any] | None = None
    version: int = VERSION

    def __repr__(self) -> str:
        return f"<Manifest of zoo {self.zoo!r}: {self.describe()}>"

    @property
    def num_models(self) -> int:
        return count_ranges(self.models)

    @property
    def refs(self) -> list[ObjectRef]:
        """Every object of the version, once."""
        refs = [shard.ref for shard in self.shards] + [self.labels.ref, self.model_table.ref]
        refs += [ref for ref in (self.blocks, self.images) if ref is not None]
        return list(dict.fromkeys(refs))

    def describe(self) -> str:
        """The number of models and epochs in this version, and of those that are planned, in words."""
        models = f"{self.num_models:,} models"
        if self.num_models < self.planned_models:
            models = f"{self.num_models:,} of {self.planned_models:,} models"
        epochs = f"{self.num_epochs} epochs"
        if self.num_epochs < self.planned_epochs:
            epochs = f"{self.num_epochs} of {self.planned_epochs} epochs"
        return f"{models}, {epochs}"

    def to_json(self) -> bytes:
        value = {
            "format": FORMAT,
            "version": self.version,
            "zoo": self.zoo,
            "run": self.run,
            "title": self.title,
            "source": self.source,
            "dataset": self.dataset,
            "architecture": self.architecture,
            "planned": {"models": self.planned_models, "epochs": self.planned_epochs},
            "models": ranges_to_json(self.models),
            "num_models": self.num_models,
            "num_epochs": self.num_epochs,
            "num_states": self.num_states,
            "absent": [list(item) for item in self.absent],
            "root_zoo": self.root_zoo,
            "parent": None if self.parent is None else {
                "zoo": self.parent.zoo, "run": self.parent.run, "epoch": self.parent.epoch,
            },
            "layout": self.layout.to_json(),
            "noisy_layout": None if self.noisy_layout is None else self.noisy_layout.to_json(),
            "layers": self.layers,
            "state_dict_names": self.state_dict_names,
            "symmetries": self.symmetries,
            "fields": {name: {"dtype": f.dtype, "values": f.values} for name, f in self.fields.items()},
            "split": {"rule": self.split.to_json(), "counts": self.split_counts},
            "shard_shape": list(self.shard_shape),
            "shards": [shard.to_json() for shard in self.shards],
            "tables": {"labels": _table_json(self.labels), "models": _table_json(self.model_table)},
            "twin": self.twin,
        }  # fmt: skip
        if self.version > 1:
            value |= {
                "compression": None if self.compression is None else self.compression.to_json(),
                "blocks": None if self.blocks is None else self.blocks.to_json(),
                "notes": list(self.notes),
            }
        if self.version > 2:
            listed = {"labels": self.label_columns, "models": self.model_columns}
            value |= {
                "columns": {name: [column.to_json() for column in columns] for name, columns in listed.items()},
                "data": self.data,
                "images": None if self.images is None else self.images.to_json(),
            }
        if self.task is not None:
            value["task"] = self.task
        return canonical_json(value)

    @classmethod
    def from_json(cls, data: bytes, what: str) -> "Manifest":
        """Parse a manifest. Raises NewerFormat, and FormatError for all that docs/format.md tells readers to refuse."""
        value = parse_json(data, what)
        check_format(value, FORMAT, VERSION, what)
        version = value["version"]
        try:
            labels, models = _columns(value, version)
            manifest = cls(
                zoo=json_text(value["zoo"]),
                run=json_text(value["run"]),
                title=json_text(value["title"]),
                source=json_text(value["source"]),
                dataset=json_text(value["dataset"]),
                architecture=value["architecture"],
                planned_models=json_integer(value["planned"]["models"]),
                planned_epochs=json_integer(value["planned"]["epochs"]),
                models=ranges_from_json(value["models"]),
                num_epochs=json_integer(value["num_epochs"]),
                num_states=json_integer(value["num_states"]),
                absent=tuple((json_integer(model), json_text(reason)) for model, reason in value["absent"]),
                root_zoo=json_text(value["root_zoo"]),
                parent=None if value["parent"] is None else Parent(**value["parent"]),
                layout=Layout.from_json(value["layout"]),
                noisy_layout=None if value["noisy_layout"] is None else Layout.from_json(value["noisy_layout"]),
                layers=value["layers"],
                state_dict_names=value["state_dict_names"],
                symmetries=value["symmetries"],
                fields={name: _field(entry) for name, entry in value["fields"].items()},
                split=SplitRule.from_json(value["split"]["rule"]),
                split_counts={name: json_integer(count) for name, count in value["split"]["counts"].items()},
                shard_shape=(_positive(value["shard_shape"][0]), _positive(value["shard_shape"][1])),
                shards=tuple(ShardEntry.from_json(shard, what) for shard in value["shards"]),
                labels=_table(value["tables"]["labels"], what),
                model_table=_table(value["tables"]["models"], what),
                twin=value["twin"],
                compression=None if version == 1 else _compression(value["compression"]),
                blocks=None if version == 1 else _ref(value["blocks"], what),
                notes=() if version == 1 else tuple(json_text(note) for note in value["notes"]),
                label_columns=labels,
                model_columns=models,
                data=None if version < 3 else _facts(value["data"]),
                images=None if version < 3 else _ref(value["images"], what),
                task=None if version < 3 else _task(value.get("task")),
                version=version,
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise FormatError(f"{what}: no manifest ({type(error).__name__}: {error})") from None
        manifest.check(what)
        return manifest

    def check(self, what: str) -> None:
        """Raises FormatError where parts of the manifest contradict each other."""
        blocks = set()
        num_states = 0
        for shard in self.shards:
            block = (shard.first_model, shard.first_epoch)
            if block in blocks:
                raise FormatError(f"{what}: the shard of model {block[0]}, epoch {block[1]} is named twice")
            blocks.add(block)
            if block[0] % self.shard_shape[0] or block[1] % self.shard_shape[1]:
                raise FormatError(f"{what}: object {shard.ref.key} is not at a boundary of shards")
            held: list[int] = []
            num_held = 0
            for epochs, models in shard.rows:
                # Ranges are compared as they are: a few bytes of JSON can name ten million numbers.
                if (epoch := first_outside(epochs, ((block[1], block[1] + self.shard_shape[1]),))) is not None:
                    raise FormatError(f"{what}: object {shard.ref.key} cannot hold epoch {epoch}")
                model = first_outside(models, ((block[0], block[0] + self.shard_shape[0]),))
                if model is None:
                    model = first_outside(models, self.models)
                if model is not None:
                    raise FormatError(f"{what}: object {shard.ref.key} cannot hold model {model}")
                if shard.tensors and len(held) + count_ranges(epochs) > len(shard.tensors):
                    raise FormatError(f"{what}: object {shard.ref.key} does not list the tensors of its epochs")
                if not epochs or not models:
                    raise FormatError(f"{what}: object {shard.ref.key} names rows of nothing")
                num_held += count_ranges(epochs) * count_ranges(models)
                if shard.tensors or num_held == 1:
                    held += from_ranges(epochs)
            num_states += num_held
            if len(set(held)) != len(held):
                raise FormatError(f"{what}: object {shard.ref.key} names an epoch's models twice")
            if shard.tensors:
                if set(shard.tensors) != {tensor_name(epoch, field) for epoch in held for field in self.fields}:
                    raise FormatError(f"{what}: object {shard.ref.key} does not list the tensors of its epochs")
                for name, tensor in shard.tensors.items():
                    if not 0 <= tensor.start <= tensor.stop <= shard.ref.bytes or not is_sha256(tensor.sha256):
                        raise FormatError(f"{what}: tensor {name} of object {shard.ref.key} is not in it")
                if self.compression is not None:
                    check_chains(shard, held, what)
                elif any(tensor.values_sha256 or tensor.base is not None for tensor in shard.tensors.values()):
                    raise FormatError(f"{what}: object {shard.ref.key} is compressed, the zoo is not")
            elif num_held != 1 or self.compression is not None:
                raise FormatError(f"{what}: object {shard.ref.key} does not list its tensors")
        if num_states != self.num_states:
            raise FormatError(f"{what}: the shards hold {num_states} states, the manifest says {self.num_states}")
        if self.blocks is not None and (self.compression is not None or not all(s.tensors for s in self.shards)):
            raise FormatError(f"{what}: names digests of blocks that its shards cannot have")
        if "" not in self.fields or self.fields[""].values != self.layout.size:
            raise FormatError(f"{what}: weights of another length than the layout's {self.layout.size}")


def _positive(value: Any) -> int:
    if json_integer(value) < 1:
        raise ValueError(f"{value} is less than 1")
    return int(value)


def _field(value: dict[str, Any]) -> FieldEntry:
    if value["dtype"] not in DTYPES:
        raise ValueError(f"values of type {value['dtype']!r}")
    return FieldEntry(value["dtype"], json_integer(value["values"]))


def _compression(value: Any) -> Compression | None:
    return None if value is None else Compression.from_json(value)


def _ref(value: Any, what: str) -> ObjectRef | None:
    return None if value is None else ObjectRef.from_json(value, what)


def _facts(value: Any) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise ValueError("data is no JSON object")
    return value


def _task(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if value["name"] != "image_regression":
        raise ValueError(f"the task {str(value['name'])[:100]!r}, which this version does not know")
    if [_positive(number) for number in value["image_shape"]][1:] != 2 * value["image_shape"][2:]:
        raise ValueError(f"images of shape {value['image_shape']}")
    return {**value, "steps_per_epoch": _positive(value["steps_per_epoch"])}


def _columns(value: dict[str, Any], version: int) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
    """Columns of the labels and of the model table; before version 3 manifests did not list them."""
    if version < 3:
        return joined_columns(twin_names(value["twin"])), model_columns()
    labels, models = (tuple(map(Column.from_json, value["columns"][name])) for name in ("labels", "models"))
    named = [column.name for column in labels]
    for listed, needed in ((labels, joined_columns(named)), (models, model_columns(named))):
        names = [column.name for column in listed]
        if len(set(names)) < len(names) or not {c.name for c in needed} <= set(names):
            raise ValueError(f"columns {names} name one twice, or lack one")
    return labels, models


def _table(value: dict[str, Any], what: str) -> TableEntry:
    ref = ObjectRef.from_json({name: value[name] for name in ("sha256", "bytes", "kind")}, what)
    return TableEntry(ref, json_integer(value["rows"]), value["values_sha256"])


def _table_json(entry: TableEntry) -> dict[str, Any]:
    return {**entry.ref.to_json(), "rows": entry.rows, "values_sha256": entry.values_sha256}
