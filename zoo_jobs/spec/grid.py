"""Rows of a zoo: one per model index, with its hyperparameters and its seed. Pure."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from functools import lru_cache
from typing import Any, NamedTuple

from zooforge.storage.canonical import digest_of

from ..errors import InputError
from .blocks import AXIS_ORDER, FREE_SPREAD
from .draws import Distribution, Draws, drawn
from .seeds import derived_seed
from .twins import TwinSpec, Zoo
from .zoo import Start, ZooSpec


class Family(NamedTuple):
    """An operation family: models of one architecture whose training runs the same operations."""

    activation: str
    dropout: bool
    optimizer: str


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model of a zoo. ``index`` is its identity and never changes."""

    index: int
    activation: str
    dropout_ratio: float
    initializer: str
    optimizer: str
    learning_rate: float
    weight_decay: float
    momentum: float
    nesterov: bool
    seed: int
    initializer_scale: float = 1.0
    initial_bias: float = 0.01
    train_fraction: float = 1.0
    label_noise: float = 0.0
    initial_std: float = 1.0
    parent_run: str | None = None
    parent_model: int | None = None
    parent_epoch: int | None = None
    image: int | None = None

    @property
    def family(self) -> Family:
        return Family(self.activation, self.dropout_ratio > 0, self.optimizer)

    @property
    def digest(self) -> str:
        """16 hex digits of the SHA-256 over the canonical JSON of the fields.

        The digest does not include ``index``. It also leaves out a field that has its default value, so a field that a
        later version adds changes no digest of a row that does not use it.
        """
        values = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "index" and (field.default is MISSING or getattr(self, field.name) != field.default)
        }
        return digest_of(values)[:16]


@lru_cache(maxsize=64)
def rows(zoo: Zoo) -> tuple[ModelRow, ...]:
    """Rows of all models of a zoo, by model index: the zoo's own grid first, then each extend block in order.

    Twins have the rows of their parents, with dropout ratio 0, and with weight decay 0 unless their spec keeps the
    parent's. (Weight decay on log sigma^2 prunes weights by itself.)

    Raises:
        InputError: an extend block repeats an existing model, a drawn number cannot be used, or the parents' zoo has no
            model with the index of a parent.
    """
    if isinstance(zoo, TwinSpec):
        kept = zoo.sparsify.weight_decay == "parent"
        return tuple(
            replace(row, weight_decay=row.weight_decay if kept else 0.0, dropout_ratio=0.0) for row in rows(zoo.parent)
        )
    if zoo.draws is not None:
        return tuple(_drawn(zoo, zoo.draws))
    if zoo.start is not None:
        return tuple(_children(zoo, zoo.start))
    if zoo.images is not None:
        return tuple(_by_image(zoo, zoo.images))
    table = list(_grid(zoo, zoo.axes, zoo.seeds.values, zoo.num_seeds, 0))
    if zoo.imported_seeds is not None:
        table = [replace(row, seed=seed) for row, seed in zip(table, zoo.imported_seeds, strict=True)]
    seen = {_values(row): row.index for row in table} if zoo.extend and zoo.seeds.values is not None else {}
    for number, block in enumerate(zoo.extend):
        seeds = block.seeds.values if block.seeds is not None else zoo.seeds.values
        count = block.seeds_per_cell or zoo.seeds_per_cell or len(seeds or ())
        for row in _grid(zoo, block, seeds, count, len(table)):
            if seen and seen.setdefault(_values(row), row.index) != row.index:
                raise InputError(
                    f"{zoo.name}: extend block {number} repeats model {seen[_values(row)]}; "
                    "name only values, or combinations, that are new"
                )
            table.append(row)
    return tuple(table)


@lru_cache(maxsize=64)
def root_models(spec: ZooSpec) -> tuple[int, ...]:
    """For each model, the index of its ancestor in ``spec.family_root``; without parents the model's own index."""
    if spec.start is None:
        return tuple(range(len(rows(spec))))
    roots = root_models(spec.start.spec)
    return tuple(roots[row.parent_model] for row in rows(spec) if row.parent_model is not None)


def check_extends(old: Zoo, new: Zoo) -> None:
    """Check that ``new`` may replace ``old`` under one name: the same run, and every row of ``old`` unchanged.

    Raises:
        InputError: ``new`` may not. The message names the first difference.
    """
    before, after = rows(old), rows(new)
    for row, other in itertools.zip_longest(before, after[: len(before)]):
        if row != other:
            now = "is gone" if other is None else f"would be {_difference(row, other)}"
            raise InputError(
                f"{new.name}: model {row.index} {now}; rows that exist never change. "
                "New values go into an `extend:` block, or the zoo needs another name"
            )
    if old.run_id != new.run_id:
        changed = ", ".join(key for key, value in new.run_content.items() if old.run_content.get(key) != value)
        raise InputError(
            f"{new.name}: {changed or 'the spec'} changed, so the models already trained would not be its own; "
            "undo the edit, give the zoo another name, or start over with --new-lineage"
        )


def _grid(spec: ZooSpec, axes: Any, seeds: Sequence[int] | None, num_seeds: int, start: int) -> Iterator[ModelRow]:
    values = [getattr(axes, name, None) or spec.axis_values(name) for name in AXIS_ORDER]
    # itertools varies the last factor fastest; the reference varies the first factor fastest.
    cells = [dict(zip(reversed(AXIS_ORDER), cell, strict=True)) for cell in itertools.product(*reversed(values))]
    shared, index = _shared(spec), start
    for number in range(num_seeds):
        for cell in cells:
            seed = seeds[number] if seeds is not None else derived_seed(spec.seed_salt or 0, index)
            yield ModelRow(index=index, seed=seed, **shared, **cell)
            index += 1


def _by_image(spec: ZooSpec, images: range) -> Iterator[ModelRow]:
    """Repeat the grid of the zoo for each image. The image varies slowest."""
    index = 0
    for image in images:
        for row in _grid(spec, spec.axes, spec.seeds.values, spec.num_seeds, index):
            yield replace(row, image=image)
            index += 1


def _children(spec: ZooSpec, start: Start) -> Iterator[ModelRow]:
    """Repeat the grid of the zoo for each parent. The parent varies slowest."""
    count = len(rows(start.spec))
    if start.parents.stop > count:
        raise InputError(f"{spec.name}: start.models {start.models}: {start.spec.name} has {count:,} models")
    index = 0
    for model in start.parents:
        for row in _grid(spec, spec.axes, spec.seeds.values, spec.num_seeds, index):
            yield replace(row, parent_run=start.spec.run_id, parent_model=model, parent_epoch=start.epoch)
            index += 1


def _drawn(spec: ZooSpec, columns: Draws) -> Iterator[ModelRow]:
    distributions: dict[str, Distribution] = {name: getattr(columns, name) for name in AXIS_ORDER}
    seeds = spec.seeds.values
    fixed = _shared(spec) | {name: one.values[0] for name, one in distributions.items() if len(one.values) == 1}
    varied = [(name, one) for name, one in distributions.items() if name not in fixed]
    for index in range(columns.num_models):
        seed = seeds[0] if seeds is not None else derived_seed(spec.seed_salt or 0, index)
        values = fixed | {"index": index, "seed": seed}
        for name, distribution in varied:
            values[name] = drawn(distribution, columns.seed, index, name)
            if distribution.normal is not None:
                try:
                    columns.check_number(name, values[name])
                except ValueError as error:
                    raise InputError(
                        f"{spec.name}: model {index}: {error}, drawn from {distribution}; use a narrower one or "
                        "log_uniform"
                    ) from None
        if values["initializer"] not in FREE_SPREAD:
            values["initial_std"] = 1.0
        yield ModelRow(**values)


def _shared(spec: ZooSpec) -> dict[str, Any]:
    """The columns that all models of a zoo have in common."""
    return {name: getattr(spec, name) for name in ("momentum", "nesterov", "initializer_scale", "initial_bias")}


def _values(row: ModelRow) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in ModelRow.__slots__ if name != "index")


def _difference(row: ModelRow, other: ModelRow) -> str:
    return ", ".join(
        f"{name} {getattr(other, name)} instead of {getattr(row, name)}"
        for name in ModelRow.__slots__
        if getattr(row, name) != getattr(other, name)
    )
