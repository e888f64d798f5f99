"""Work units of a zoo, requests, and the tasks that a request still needs. Pure.

Units are cut from the whole zoo, independent of the request. When a zoo is extended, full units stay as they are, and
the last unit of a family gains the appended models and keeps its id. Records do not change: each names its members.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..errors import InputError
from ..spec.epochs import last_part
from ..spec.grid import Family, ModelRow, rows
from ..spec.twins import Zoo
from ..spec.zoo import ZooSpec

SPLIT_MULTIPLE = 16
"""Units are split at multiples of this many models, the number of lanes of the widest register."""

TOGETHER_MODELS = 1024
"""Models of a unit that a GPU trains together: with 256 the launches of a step take about as long as its work."""

_MODELS = re.compile(r"(\d*):(\d*)")


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """Models of one operation family, ascending: the unit of scheduling, retries and resuming."""

    models: tuple[int, ...]

    @property
    def id(self) -> int:
        return self.models[0]


@dataclass(frozen=True, slots=True)
class Request:
    """The part of a zoo that is wanted: ``models``, each with its states 0 to ``num_epochs``."""

    models: range
    num_epochs: int
    last_part: int

    @property
    def num_states(self) -> int:
        return len(self.models) * (self.num_epochs + 1)


@dataclass(frozen=True, slots=True)
class Task:
    """Models of one unit whose next part is ``part``, to be trained from there to the end of the request."""

    unit: int
    models: tuple[int, ...]
    part: int


def unit_models(zoo: Zoo, *, together: bool = False) -> int:
    """Number of models of a full unit; it depends on the architecture.

    Args:
        together: one kernel of a GPU trains all models of a unit, so larger units keep more of the GPU busy.
    """
    models = zoo.root.architecture_row.unit_models
    return max(models, TOGETHER_MODELS) if together else models


def work_units(zoo: Zoo, models: Sequence[ModelRow] | None = None, *, size: int | None = None) -> tuple[WorkUnit, ...]:
    """All units of the zoo, by id: the models of each operation family, in index order, ``size`` to a unit.

    Args:
        models: rows of the zoo; None: computed.
        size: models per unit, as the run has pinned it; None: that of the architecture.
    """
    size = size or unit_models(zoo)
    families: dict[Family, list[int]] = {}
    for row in rows(zoo) if models is None else models:
        families.setdefault(row.family, []).append(row.index)
    units = [
        WorkUnit(tuple(members[start : start + size]))
        for members in families.values()
        for start in range(0, len(members), size)
    ]
    return tuple(sorted(units, key=lambda unit: unit.id))


def request(
    zoo: Zoo, models: str | None = None, num_epochs: int | None = None, commit_every: int | None = None
) -> Request:
    """The request of ``--models A:B --epochs N``; without an option the whole zoo.

    Raises:
        InputError: the range is empty or goes beyond the zoo, the epochs are not a multiple of ``commit_every``, or
            go beyond the end of the schedule.
    """
    epochs = zoo.num_epochs if num_epochs is None else num_epochs
    if epochs < 0:
        raise InputError(f"--epochs {epochs}: {zoo.name} has states 0 to N, so N is 0 or more")
    if isinstance(zoo, ZooSpec) and zoo.schedule is not None and epochs > zoo.num_epochs:
        raise InputError(
            f"--epochs {epochs}: the schedule {zoo.schedule} of {zoo.name} ends with epoch {zoo.num_epochs}; "
            f"a longer one is another zoo: --set num_epochs={epochs} --name NAME"
        )
    wanted = model_slice(models, len(rows(zoo)), zoo.name)
    return Request(wanted, epochs, last_part(epochs, commit_every or zoo.commit_every))


def model_slice(text: str | None, num_models: int, name: str) -> range:
    """The models of ``A:B``, half-open; without A or B to the end of the zoo. Raises InputError."""
    if text is None:
        return range(num_models)
    text = text.strip()
    match = _MODELS.fullmatch(text)
    if match is None:
        raise InputError(f"--models {text!r} is not a half-open range A:B; {name} has models 0:{num_models}")
    start, stop = int(match[1] or 0), int(match[2] or num_models)
    if start >= stop:
        raise InputError(f"--models {text} is empty: A:B is half-open, A below B; {name} has models 0:{num_models}")
    if stop > num_models:
        raise InputError(f"--models {text} goes beyond {name}, which has models 0:{num_models}")
    return range(start, stop)


def tasks(
    units: Iterable[WorkUnit],
    wanted: Request,
    next_part: Callable[[int], int],
    *,
    slots: int = 1,
    bitwise: bool = True,
    max_models: int | None = None,
) -> tuple[Task, ...]:
    """The tasks that a request still needs, those with the earliest part first, then the largest.

    Args:
        next_part: gives the first part of a model that is not committed.
        slots: number of tasks that can run at once; units are split while there are fewer tasks.
        bitwise: whether the engine gives the same bytes however a unit is split; otherwise units are not split.
        max_models: most models of a task.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for unit in units:
        for model in unit.models:
            if model in wanted.models and (part := next_part(model)) <= wanted.last_part:
                groups.setdefault((unit.id, part), []).append(model)
    limit = _task_limit([len(members) for members in groups.values()], slots) if bitwise else None
    if bitwise and max_models is not None:
        limit = max(1, min(max_models, limit or max_models))
    pieces = [
        Task(unit, piece, part)
        for (unit, part), members in groups.items()
        for piece in _pieces(tuple(members), limit or len(members))
    ]
    return tuple(sorted(pieces, key=lambda task: (task.part, -len(task.models), task.models)))


def models_that_fit(epoch_seconds_per_model: float, notice_seconds: float) -> int:
    """The most models of a task whose epoch takes at most half of ``notice_seconds``; 0 if not even one fits."""
    fit = math.floor(notice_seconds / 2 / epoch_seconds_per_model)
    return fit if fit < SPLIT_MULTIPLE else fit - fit % SPLIT_MULTIPLE


def _task_limit(sizes: Sequence[int], slots: int) -> int | None:
    """The largest multiple of 16 that cuts ``sizes`` into at least ``slots`` pieces; 16 if none does."""
    if not sizes or len(sizes) >= slots:
        return None
    limit = -(-max(sizes) // SPLIT_MULTIPLE) * SPLIT_MULTIPLE
    while limit > SPLIT_MULTIPLE and sum(-(-size // limit) for size in sizes) < slots:
        limit -= SPLIT_MULTIPLE
    return limit


def _pieces(members: tuple[int, ...], limit: int) -> list[tuple[int, ...]]:
    """``members`` in the fewest pieces of at most ``limit`` models, of about equal size, cut at multiples of 16."""
    count = -(-len(members) // limit)
    grain = SPLIT_MULTIPLE if limit % SPLIT_MULTIPLE == 0 else 1
    blocks = -(-len(members) // grain)
    cuts = [min(round(blocks * piece / count) * grain, len(members)) for piece in range(count + 1)]
    return [members[start:stop] for start, stop in itertools.pairwise(cuts) if start < stop]
