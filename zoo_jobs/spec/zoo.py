"""The spec of a zoo: a typed, closed and frozen value that says what is trained, and how. Pure."""

from functools import cached_property
from typing import Annotated, Any, Optional, Self

from pydantic import Field, PlainSerializer, WithJsonSchema, model_validator

from zooforge.storage.canonical import digest_of

from ..closed import Closed
from ..errors import InputError, unknown
from ..tasks.registry import DEFAULT, TASKS
from .blocks import FIRST_AXES, LATER_AXES, NUMERICS_VERSION, ModelSplitRule, validated
from .checks import check_fields
from .fields import ZooFields
from .layer_list import LayerList
from .own_code import OwnCode
from .start import Head, ModelRange, difference


def _whole(spec: "ZooSpec | None") -> dict[str, Any] | None:
    """All fields of the parents' spec, even if only the child's fields that differ from their defaults are written."""
    return None if spec is None else spec.to_json()


class Start(Closed):
    """The models (parents) with whose weights the models of this zoo begin. The parent is the grid's slowest axis."""

    zoo: Annotated[str, Field(min_length=1)]
    """The parents' zoo: a name of the catalogue, or the path of a spec's file."""
    epoch: Annotated[int, Field(ge=0)]
    """Epoch of the parents whose weights are used; these weights must be published."""
    models: ModelRange
    """Indices of the parents, a half-open range "A:B"; a larger B appends models to the zoo."""
    head: Head = "keep"
    """keep: all weights are the parent's; new: the last layer is initialised anew, so the classes may differ."""
    parent: Annotated[Optional["ZooSpec"], PlainSerializer(_whole), WithJsonSchema({"type": ["object", "null"]})] = None
    """Spec of the parents' zoo; reading the spec's file fills it in."""

    @property
    def parents(self) -> range:
        """Indices of the parents."""
        first, stop = self.models.split(":")
        return range(int(first), int(stop))

    @property
    def spec(self) -> "ZooSpec":
        """The spec of the parents' zoo."""
        if self.parent is None:
            raise ValueError("the spec of the parents' zoo is not filled in")
        return self.parent


class ZooSpec(ZooFields):
    """One zoo: a population of models of one architecture on one dataset."""

    start: Start | None = None
    """Parents whose weights are the initial weights; null: the initializer makes the initial weights."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_fields(self)
        self._check_start()
        return self

    def _check_start(self) -> None:
        start = self.start
        if start is None:
            return
        if start.parent is None:
            raise ValueError("start: the parents' zoo is read only where a file holds the spec")
        for name, unset in (
            ("draws", self.draws is None), ("extend", not self.extend), ("imported_seeds", self.imported_seeds is None),
        ):  # fmt: skip
            if not unset:
                raise ValueError(f"{name}: a zoo with `start` has a grid for each parent, and grows by start.models")
        if self.split_rule != ModelSplitRule():
            raise ValueError(f"split_rule: models stay in the split of their root, a model of {self.family_root.name}")
        if start.head == "keep" and len(self.axis_values("initializer")) > 1:
            raise ValueError("axes.initializer: nothing is initialised with start.head keep; name one")
        here, there = (one.network(one.axis_values("activation")[0], dropout=False) for one in (self, start.parent))
        if (different := difference(there, here, start.head)) is not None:
            hint = "; head: new leaves the last layer out" if start.head == "keep" else ""
            raise ValueError(f"start: the networks of {start.parent.name} have another layout: {different}{hint}")
        if start.epoch not in start.parent.save_epochs:
            raise ValueError(
                f"start.epoch: {start.parent.name} keeps no weights of epoch {start.epoch}; it keeps "
                f"{start.parent.save_epochs}"
            )

    @property
    def root(self) -> "ZooSpec":
        """The spec that defines data, architecture and batches: this one. For twins it is the parent's."""
        return self

    @property
    def family_root(self) -> "ZooSpec":
        """The first ancestor: the zoo at the end of the chain of ``start``. Without ``start`` it is this zoo."""
        return self if self.start is None else self.start.spec.family_root

    @property
    def run_content(self) -> dict[str, Any]:
        """JSON of the fields that can change a result, and of no other fields.

        It leaves out names and sources, ``extend`` (it only appends rows), ``draws.num_models``, ``start.models``,
        ``image``, ``save_epochs``, ``commit_every``, ``expected_faulty_ratio``, ``sparsify`` (twins have runs of their
        own), ``compression``, and ``num_epochs`` unless the schedule depends on it.
        """
        later = (
            "split_rule", "initializer_scale", "initial_bias", "memory_format", "precision", "weight_decay_on", "task",
            "steps_per_epoch",
        )  # fmt: skip
        content = self.digest_fields(always=_RESULT_FIELDS, if_set=later)
        if not isinstance(self.dataset, str):
            content["dataset"] = {"digest": self.dataset.digest}
        if isinstance(self.architecture, LayerList):
            content["architecture"] = {"layers": self.architecture.content}
        if isinstance(self.architecture, OwnCode):
            content["architecture"] = {"code": self.architecture.content}
        if self.draws is not None:
            del content["axes"]
            content["draws"] = self.draws.digest_fields(always=("seed", *FIRST_AXES), if_set=LATER_AXES)
        if self.axes is not None:
            content["axes"] = self.axes.digest_fields(always=FIRST_AXES, if_set=LATER_AXES)
        if self.start is not None:
            content["start"] = {"run": self.start.spec.run_id, "epoch": self.start.epoch, "head": self.start.head}
        content["seeds"] = "random" if self.seeds.values is None else list(self.seeds.values)
        content["train_eval_epochs"] = self.train_eval_epochs.with_epoch_0().to_json()
        if self.imported_seeds is not None:
            content["seed_salt"] = None
        if self.schedule is not None:
            content["num_epochs"] = self.num_epochs
        content["numerics_version"] = NUMERICS_VERSION
        return content

    @cached_property
    def run_id(self) -> str:
        """32 hex digits: SHA-256 over the canonical JSON of ``run_content``."""
        return digest_of(self.run_content)[:32]

    def to_json(self) -> dict[str, Any]:
        """The whole spec as JSON, with defaults, without fields that follow from the task. ``from_json`` reads it."""
        dumped: dict[str, Any] = self.model_dump(mode="json")
        return self.task_row.left_out(dumped)

    @classmethod
    def from_json(cls, value: Any, where: str = "spec") -> "ZooSpec":
        """Parse ``value`` as a spec. Raises InputError with one line that begins with ``where``."""
        if isinstance(value, dict):
            if value.get("draws") is not None:
                value = {"axes": None} | value  # `axes` has no default, so that a grid without it is refused
            task = str(value.get("task", DEFAULT))
            if task not in TASKS:  # check the task first, since other fields depend on it
                raise InputError(f"{where}: {unknown('task', task, TASKS)}")
            value = TASKS[task].fill_in(value)
        return validated(cls, value, where)


Start.model_rebuild()
ZooSpec.model_rebuild()

_RESULT_FIELDS = (
    "architecture", "augment", "axes", "batch_size", "dataset", "imported_seeds", "momentum", "nesterov",
    "preprocessing", "schedule", "seed_salt", "seeds_per_cell", "split",
)  # fmt: skip
