"""Estimates what a request takes: steps, FLOP, seconds, bytes, objects, dollars. Reads two tables, else pure.

Seconds come from rates that were measured on a named machine (rates.yaml, written by benchmarks/rates.py), dollars
from prices.yaml. Where the rate of a ResNet was not measured, seconds are FLOP over an assumed share of the peak of the
machine's data sheet, and the estimate says so. Other values that were not measured are None.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zooforge.storage.formats.shards import shard_shape

from ..engines.contract import MOMENTS, noisy_layout
from ..engines.subsets import num_training_rows
from ..models.registry import Architecture, Network, ResNet18
from ..spec.epochs import part_epochs
from ..spec.grid import rows
from ..spec.twins import TwinSpec, Zoo
from ..spec.zoo import ZooSpec
from .machines import Assumed, Machine, Rate
from .units import SPLIT_MULTIPLE, Request, Task, WorkUnit, tasks, work_units

FLOP_PER_MAC = 2
NOISE_PASSES = 2
"""In training a variational layer computes two convolutions: of the mean and of the variance."""

LABEL_ROW_BYTES = 72
"""Bytes per model and epoch of a part's label table, compressed with zstd."""
TABLE_ROW_BYTES = 60
"""Bytes per model and epoch of a version's label table, which compresses better."""
RECORD_BYTES, RECORD_BYTES_PER_MODEL = 1_800, 140
"""A record holds two SHA-256 digests per model."""
BUSY_FACTOR = 3.0
"""Rates are measured at rest. Runs on a machine that does other work as well took up to three times as long."""
RUN_OBJECTS = 4
"""run.json, pin.json, an attempt and its end; logs and usage, which depend on time, are not counted."""
VERSION_OBJECTS = 10
"""Label and model tables, digests of blocks, manifest and its copies, HEAD, spec."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimate of one request on one machine. Seconds and dollars are None without a rate or a price."""

    zoo: str
    run: str
    num_models: int
    num_units: int
    num_epochs: int
    num_states: int
    num_params: int
    num_parts: int
    num_steps: int
    num_flop: int
    peak_bytes: int
    final_bytes: int
    num_objects: int
    machine: str
    engine: str | None
    slots: int
    seconds: float | None
    busy_seconds: float | None
    """Seconds if other work shares the machine."""
    dollars: float | None
    spot_dollars: float | None
    assumed: str | None = None
    """The assumed speed that the seconds come from; None where they come from a measured rate."""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Samples:
    """Number of images that one model is trained and evaluated on."""

    trained: int
    evaluated: int


def samples(zoo: Zoo, num_epochs: int, fraction: float = 1.0) -> Samples:
    """Samples of epochs 0 to ``num_epochs``."""
    return samples_of(zoo, range(num_epochs + 1), fraction)


def samples_of(zoo: Zoo, epochs: range, fraction: float = 1.0) -> Samples:
    """Samples of ``epochs`` of a model with this ``train_fraction``.

    Epoch 0 evaluates all splits. A later epoch trains and evaluates val and test, and train where the spec says so.
    """
    spec = zoo.root
    num_trained, evaluated = len(epochs) - (0 in epochs), len(epochs) * _always_evaluated(spec)
    if spec.task_row.vectors:
        return Samples(num_trained * spec.samples_per_epoch, evaluated)
    num_train = num_training_rows(fraction, spec.split.train)
    clean = sum(epoch in epochs for epoch in zoo.train_eval_epochs.with_epoch_0().below(epochs.stop))
    return Samples(num_trained * num_train, evaluated + clean * num_train)


def fractions(zoo: Zoo, models: Sequence[int]) -> Counter[float]:
    """Number of ``models`` with each ``train_fraction``."""
    if not zoo.root.varies("train_fraction"):
        return Counter({1.0: len(models)})
    table = rows(zoo)
    return Counter(table[model].train_fraction for model in models)


def slot_seconds(zoo: Zoo, rate: Rate, models: Sequence[int], epochs: range) -> float:
    """Seconds of a slot for ``epochs`` of a task.

    `lanes` takes as long for 1 model as for 16, and packs models by their steps: each 16 take as long as the slowest.
    """
    return _slot_seconds_of(zoo, rate, fractions(zoo, models), epochs)


def _slot_seconds_of(zoo: Zoo, rate: Rate, counts: Mapping[float, int], epochs: range) -> float:
    grain = SPLIT_MULTIPLE if rate.engine == "lanes" else 1
    seconds, full = 0.0, 0  # full: models that the registers so far have room for
    placed = 0
    for fraction in sorted(counts, reverse=True):
        placed += counts[fraction]
        registers = -(-(placed - full) // grain) * grain
        seconds += registers * _slot_seconds(rate, samples_of(zoo, epochs, fraction))
        full += registers
    return seconds


def stage_seconds(zoo: Zoo, rate: Rate, missing: Iterable[Task], last_part: int, slots: int) -> float:
    """Seconds until the last task is done; each task goes to the slot that is free first."""
    free = [0.0] * slots
    known: dict[tuple[int, frozenset[tuple[float, int]]], float] = {}
    stop = part_epochs(last_part, zoo.commit_every).stop
    for task in missing:
        counts = fractions(zoo, task.models)
        key = task.part, frozenset(counts.items())
        if key not in known:
            epochs = range(part_epochs(task.part, zoo.commit_every).start, stop)
            known[key] = _slot_seconds_of(zoo, rate, counts, epochs)
        heapq.heapreplace(free, free[0] + known[key])
    return max(free)


def is_variational(zoo: Zoo) -> bool:
    return isinstance(zoo, TwinSpec) and zoo.sparsify.method == "variational-dropout"


def estimate(
    zoo: Zoo, wanted: Request, machine: Machine, engine: str | None = None, units: tuple[WorkUnit, ...] | None = None
) -> Estimate:
    """Estimate the whole of ``wanted``, without subtracting what a store has already.

    Args:
        engine: None: the fastest one that was measured on ``machine`` for this architecture.
    """
    spec, all_rows = zoo.root, rows(zoo)
    if units is None:
        units = work_units(zoo, all_rows)
    asked = [n for unit in units if (n := sum(model in wanted.models for model in unit.models))]
    family = all_rows[0].family
    net = spec.network(family.activation, family.dropout)
    num_models = len(wanted.models)
    passes = NOISE_PASSES if is_variational(zoo) else 1
    macs = num_steps = 0
    for fraction, count in fractions(zoo, wanted.models).items():
        seen = samples(zoo, wanted.num_epochs, fraction)
        macs += count * (seen.trained * net.num_train_macs * passes + seen.evaluated * net.num_macs)
        steps = spec.steps_per_epoch or -(-num_training_rows(fraction, spec.split.train) // spec.batch_size)
        num_steps += count * wanted.num_epochs * steps
    optimizers = Counter(all_rows[model].optimizer for model in wanted.models)
    stored = _stored(zoo, wanted, net, asked, optimizers)
    variational = is_variational(zoo)
    rate = machine.rate(spec.architecture_name, spec.in_channels, variational, engine, spec.precision)
    assumed = None
    if rate is None and isinstance(net, ResNet18) and engine in (None, "sequential"):
        # Layer lists are limited by memory and launches, so their FLOP do not predict the time.
        assumed = machine.assumed.get(spec.precision)
        rate = None if assumed is None else assumed_rate(net, spec.precision, assumed)
    slots = min(machine.slots, num_models)
    seconds = None
    if rate is not None:
        bitwise = rate.engine != "stacked"
        whole = tasks(units, wanted, lambda model: 0, slots=slots, bitwise=bitwise)
        seconds = stage_seconds(zoo, rate, whole, wanted.last_part, slots)
    hours = None if seconds is None else seconds / 3600

    def cost(per_hour: float | None) -> float | None:
        return None if hours is None or per_hour is None else hours * per_hour

    return Estimate(
        zoo=zoo.name,
        run=zoo.run_id,
        num_models=num_models,
        num_units=len(asked),
        num_epochs=wanted.num_epochs,
        num_states=wanted.num_states,
        num_params=net.layout.size,
        num_parts=len(asked) * (wanted.last_part + 1),
        num_steps=num_steps,
        num_flop=FLOP_PER_MAC * macs,
        machine=machine.name,
        engine=engine if rate is None else rate.engine,
        slots=machine.slots,
        seconds=seconds,
        busy_seconds=None if seconds is None else BUSY_FACTOR * seconds,
        dollars=cost(machine.dollars_per_hour),
        spot_dollars=cost(machine.spot_dollars_per_hour),
        assumed=None if assumed is None else str(assumed),
        **stored,
    )


def assumed_rate(net: ResNet18, precision: str, assumed: Assumed) -> Rate:
    """Samples per second of a slot that computes ``net`` at the assumed speed."""
    return Rate(
        engine="sequential",
        architecture=net.name,
        channels=net.in_channels,
        twins=False,
        precision=precision,
        date="assumed",
        train_samples_per_second=assumed.flop_per_second / (FLOP_PER_MAC * net.num_train_macs),
        eval_samples_per_second=assumed.flop_per_second / (FLOP_PER_MAC * net.num_macs),
    )


def epoch_seconds_per_model(zoo: Zoo, machine: Machine, engine: str | None = None) -> float | None:
    """Seconds of a slot for one epoch of one model; None if it was not measured."""
    spec = zoo.root
    rate = machine.rate(spec.architecture_name, spec.in_channels, is_variational(zoo), engine, spec.precision)
    return None if rate is None else _slot_seconds(rate, Samples(spec.samples_per_epoch, _always_evaluated(spec)))


def _always_evaluated(spec: ZooSpec) -> int:
    """Samples on which a model is evaluated after every epoch: val and test, or the image that it learns."""
    return spec.batch_size if spec.task_row.vectors else spec.split.val + spec.num_test


def _slot_seconds(rate: Rate, seen: Samples) -> float:
    return seen.trained / rate.train_samples_per_second + seen.evaluated / rate.eval_samples_per_second


def _stored(zoo: Zoo, wanted: Request, net: Network, asked: list[int], optimizers: Mapping[str, int]) -> dict[str, int]:
    """Bytes and objects. The peak is when a version is sealed: parts and shards are both there. Final is after `gc`."""
    num_models, num_params = len(wanted.models), net.layout.size
    num_noisy = noisy_layout(net).size if is_variational(zoo) and isinstance(net, Architecture) else 0
    kept = zoo.save_epochs.below(wanted.num_epochs + 1)
    model_bytes = 4 * (num_params + num_noisy) + -(-num_noisy // 8)
    model_bytes += 4 * net.buffer_layout.size + 8 * len(net.counter_names)
    trained = num_params + num_noisy
    moments = sum(count * len(MOMENTS[optimizer]) for optimizer, count in optimizers.items())
    state_bytes = num_models * model_bytes + 4 * trained * moments
    weight_bytes = num_models * len(kept) * model_bytes
    compressed = zoo.root.compression not in (None, "none")
    shard_models, shard_epochs = shard_shape(zoo.root.architecture_row.shard_shape, num_params, compressed)
    blocks = len({model // shard_models for model in (wanted.models[0], wanted.models[-1])})
    if blocks == 2:
        blocks = wanted.models[-1] // shard_models - wanted.models[0] // shard_models + 1
    num_shards = blocks * len({epoch // shard_epochs for epoch in kept})
    num_parts = len(asked) * (wanted.last_part + 1)
    kept_parts = sum(
        any(epoch in zoo.save_epochs for epoch in part_epochs(part, zoo.commit_every))
        for part in range(wanted.last_part + 1)
    ) * len(asked)
    # With one model and one epoch per shard, the part's object is the shard, and nothing is copied.
    copied = 0 if (shard_models, shard_epochs) == (1, 1) and zoo.commit_every == 1 else 1
    record_bytes = num_parts * RECORD_BYTES + num_models * (wanted.last_part + 1) * RECORD_BYTES_PER_MODEL
    table_bytes = wanted.num_states * TABLE_ROW_BYTES
    final_bytes = weight_bytes + table_bytes + state_bytes + record_bytes
    return {
        "peak_bytes": final_bytes + copied * weight_bytes + wanted.num_states * LABEL_ROW_BYTES,
        "final_bytes": final_bytes,
        "num_objects": num_parts * 2 + kept_parts + len(asked) + copied * num_shards + RUN_OBJECTS + VERSION_OBJECTS,
    }


def ranked(estimates: list[Estimate]) -> list[Estimate]:
    """Sorted by price, then time; estimates without a time last."""
    unknown = float("inf")
    return sorted(
        estimates,
        key=lambda e: (
            e.seconds is None,
            unknown if e.dollars is None else e.dollars,
            unknown if e.seconds is None else e.seconds,
            e.machine,
        ),
    )
