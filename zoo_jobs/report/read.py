"""Reads the contents of a report from a store."""

import contextlib
import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np

from zooforge.storage.errors import EpochNotPresent, StorageUsageError, StoreRefused
from zooforge.storage.keys import zoo_url
from zooforge.storage.publish.head import list_zoos, read_head, read_manifest_bytes
from zooforge.storage.runs.run_files import read_pin
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import Zoo as Published
from zooforge.storage.zoo import open_zoo

from ..catalogue.in_store import stored
from ..data.registry import DATASETS
from ..planning.estimate import estimate
from ..planning.machines import machine
from ..spec.blocks import LATER_AXES
from ..spec.grid import rows
from ..spec.twins import TwinSpec, Zoo
from ..spec.zoo import ZooSpec
from ..watching.facts import RunFacts, read_facts
from . import words
from .contents import ByClass, Contents, Reconstructions, RunAccount, ZooFacts
from .fidelity import compare, is_sample, references
from .population import HYPERPARAMETERS, METRICS, Population, population
from .statistics import ranked
from .weight_map import StateSample, weight_map

SHEET_MODELS, SHEET_EPOCHS = 6, (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)
MAX_MAP_EPOCHS = 11
MAP_BYTES = 256 * 2**20
COLUMNS = (
    "model", "epoch", "seed", "split", "faulty_epoch", "faulty_reason", *HYPERPARAMETERS, *METRICS,
)  # fmt: skip
COUNTED = ("pod_seconds", "retries", "store_retries", "preemptions", "lost_epochs")
METHODS = {"variational-dropout": "variational dropout", "magnitude": "magnitude pruning"}


def read_contents(store: ObjectStore, url: str, name: str, version: int | None = None) -> Contents:
    """Read what the report shows of a published zoo and its twins; `read_accounts` adds how its run went.

    Args:
        url: of ``store``, as the caller named it.

    Raises:
        NotPublished: no such zoo or version.
    """
    published = open_zoo(zoo_url(url, name), version)
    spec = stored(store, name)
    here = read_population(published)
    sparse = twin_names(store, url, published)
    notes = [f"More twins: {', '.join(sparse[1:])}."] if len(sparse) > 1 else []
    if isinstance(spec, ZooSpec):
        notes += spec.conflicts
    twins = read_contents(store, url, sparse[0]) if sparse else None
    return _contents(store, published, spec, here, twins, tuple(notes), with_map=True)


def read_labels_only(store: ObjectStore, url: str, name: str, version: int | None = None) -> Contents:
    """Like `read_contents`, but without weights and twins, which `zoo fidelity` does not need."""
    published = open_zoo(zoo_url(url, name), version)
    return _contents(store, published, stored(store, name), read_population(published), None, (), with_map=False)


def _contents(
    store: ObjectStore,
    published: Published,
    spec: Zoo | None,
    here: Population,
    twins: Contents | None,
    notes: tuple[str, ...],
    *,
    with_map: bool,
) -> Contents:
    facts = _facts(store, published, spec, here)
    reference = references().get(published.name)
    root_kind = spec.root.kind if spec is not None else facts.kind
    sample = is_sample(here, root_kind, facts.num_cells)
    comparisons = () if reference is None else compare(reference, here, sample)
    parents = with_map and not published.manifest.twin
    learns = facts.task == "image_regression"
    shown = weight_map(_states(published, here)) if parents else None
    made = _reconstructions(published, here) if parents and learns else None
    return Contents(
        facts, here, shown, comparisons, twins, notes=notes, by_class=_by_class(published), reconstructions=made
    )


def _reconstructions(published: Published, here: Population) -> Reconstructions | None:
    """Images of models evenly spread from the best to the worst PSNR; None if no model has a PSNR."""
    order = ranked(here, "psnr")
    if not len(order):
        return None
    rows = np.array(spread(order.tolist(), SHEET_MODELS))
    models = here.models_N[rows].tolist()
    wanted = [epoch for epoch in published.epochs if epoch in SHEET_EPOCHS or epoch == published.epochs[-1]]
    try:
        pictures = np.stack([published.reconstruct(models, epoch) for epoch in wanted], axis=1)
    except (EpochNotPresent, StorageUsageError):  # models without one of the epochs, or of several activations
        return None
    originals = None
    with contextlib.suppress(StorageUsageError):  # the images are not published
        pixels = published.images("train")[0]
        originals = pixels[[published.row(model)["image"] for model in models]]
    psnr = here.final("psnr")[rows]
    return Reconstructions(tuple(models), tuple(wanted), pictures, originals, psnr)


def _by_class(published: Published) -> ByClass | None:
    """None where the labels have no counts by class, or no model has any."""
    counts = ((published.manifest.data or {}).get("class_counts") or {}).get("test")
    if counts is None or "test_class_correct" not in published.labels().column_names:
        return None
    table = published.class_metrics(epochs=-1)
    macro, largest = (
        table[name].to_numpy(zero_copy_only=False) for name in ("macro_recall", "largest_predicted_share")
    )
    if not np.isfinite(macro).any():
        return None
    recall, share = (np.array(table[name].to_pylist(), np.float64) for name in ("recall", "predicted_share"))
    return ByClass(np.array(counts), np.nanmean(share, axis=0), recall, macro, largest)


def read_population(published: Published) -> Population:
    """The labels of a zoo as matrices."""
    names = [name for name in COLUMNS if name in published.labels().column_names]
    table = published.labels(columns=names)
    return population({name: table[name].to_numpy(zero_copy_only=False) for name in names})


def _facts(store: ObjectStore, published: Published, spec: Zoo | None, here: Population) -> ZooFacts:
    manifest = published.manifest
    _, data = read_manifest_bytes(store, published.name, published.version)
    if spec is None:  # the zoo was imported or published: its grid is known from its models alone
        axes = {name: tuple(sorted(set(values.tolist()))) for name, values in here.hyperparameters.items()}
        cells = len(set(zip(*(values.tolist() for values in here.hyperparameters.values()), strict=True)))
        kind = "seed" if cells == 1 else "hyp-fixed"
        if manifest.twin:
            kind = METHODS["variational-dropout" if ".log_sigma2" in manifest.fields else "magnitude"]
    else:
        axes, cells = _axes(spec)
        kind = METHODS[spec.sparsify.method] if isinstance(spec, TwinSpec) else spec.kind
    dataset = DATASETS.get(manifest.dataset)
    described = manifest.dataset if dataset is None else f"{manifest.dataset}, {dataset.description}"
    parent = manifest.parent
    sources = [("Source", manifest.source)]
    if parent is not None:
        sources.append(("Parents", f"{parent.zoo}, run {parent.run[:8]}, epoch {parent.epoch}"))
    sources.append(
        ("Shards", f"{len(manifest.shards):,}, {words.size(sum(shard.ref.bytes for shard in manifest.shards))}")
    )
    return ZooFacts(
        name=manifest.zoo,
        description=manifest.title,
        kind=kind,
        dataset=described,
        architecture=str(manifest.architecture["name"]),
        num_parameters=manifest.layout.size,
        num_classes=int(manifest.architecture["num_classes"]),
        num_models=manifest.planned_models,
        num_epochs=manifest.planned_epochs,
        num_cells=cells,
        axes=axes,
        run=manifest.run,
        version=published.version,
        manifest_sha256=hashlib.sha256(data).hexdigest(),
        task=str(published.task["name"]),
        engines=_engines(store, manifest.run),
        sources=tuple(sources),
    )


def _axes(spec: Zoo) -> tuple[dict[str, tuple[object, ...]], int]:
    """Returns the values of each hyperparameter over all rows, and the number of their combinations."""
    table = rows(spec)
    names = [name for name in HYPERPARAMETERS if name not in LATER_AXES or spec.root.varies(name)]
    axes = {name: tuple(dict.fromkeys(getattr(row, name) for row in table)) for name in names}
    return axes, len({tuple(getattr(row, name) for name in names) for row in table})


def _engines(store: ObjectStore, run: str) -> tuple[str, ...]:
    """The engine that the run is pinned to; empty if the run is not in this store."""
    pin = read_pin(store, run)
    numerics = {} if pin is None else dict(pin.get("engine") or {})
    if not numerics:
        return ()
    name, version = numerics.pop("engine", "?"), numerics.pop("version", "?")
    rest = "".join(f", {key} {numerics[key]}" for key in sorted(numerics))
    return (f"{name}, version {version}{rest}",)


def twin_names(store: ObjectStore, url: str, parent: Published) -> list[str]:
    """Names of the published twins of this run, those of its last epoch first."""
    prefix = f"{parent.name}-"
    try:
        names = [name for name in list_zoos(store) if name.startswith(prefix)]
    except StoreRefused:
        names = [f"{prefix}vd"]
    twins = []
    for name in names:
        if read_head(store, name) is None:
            continue
        source = open_zoo(zoo_url(url, name)).manifest.parent
        if source is not None and (source.zoo, source.run) == (parent.name, parent.manifest.run):
            twins.append((-source.epoch, not name.startswith(f"{prefix}vd"), name))
    return [name for *_, name in sorted(twins)]


def _states(published: Published, here: Population) -> StateSample:
    """Read the weights of evenly chosen models at evenly chosen epochs, as many as fit into the memory of the map."""
    epochs = spread(published.epochs, MAX_MAP_EPOCHS)
    size = published.layout.size
    models = spread(published.models, max(2, MAP_BYTES // (4 * size * len(epochs))))
    weights_NKD = np.full((len(models), len(epochs), size), np.nan, np.float32)
    row = {model: number for number, model in enumerate(models)}
    for column, epoch in enumerate(epochs):
        states = published.weights(epochs=f"{epoch}:{epoch + 1}", models=models)  # not all models have every epoch
        weights_NKD[[row[int(model)] for model in states.models], column] = states.values
    return StateSample(np.asarray(models, np.int64), np.asarray(epochs, np.int64), weights_NKD)


def spread(values: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of ``values``, evenly spaced, the first and the last among them."""
    chosen = np.unique(np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int))
    return [values[position] for position in chosen]


def read_accounts(store: ObjectStore, contents: Contents) -> Contents:
    """Add the accounts of the zoo's run and of its twins' run, if they are in this store, to ``contents``."""
    names = [contents.facts.name] + ([contents.twins.facts.name] if contents.twins is not None else [])
    specs = [spec for name in names if (spec := stored(store, name)) is not None]
    facts = [read_facts(store, spec) for spec in specs]
    return replace(contents, accounts=tuple(account_of(one) for one in facts if one.starts))


def account_of(facts: RunFacts) -> RunAccount:
    """Plan and actual figures of a run. The plan is the one that its drivers recorded, else that of `zoo plan`."""
    usage, totals = facts.totals.usage, facts.totals
    actual = {
        "wall_seconds": sum((s.ended or s.started) - s.started for s in facts.starts),
        "compute_seconds": facts.ledger.totals.seconds,
        "bytes": float(totals.written_bytes),
        **{name: usage[name] for name in COUNTED if name in usage},
    }
    if "read_bytes" in usage:
        actual["bytes_read"] = usage["read_bytes"]
    if "dollars" in usage:
        actual |= {"dollars": usage["dollars"], "wasted_dollars": totals.dollars[1]}
    written = _written_plans(facts)
    if written is None:
        place, engine = machine(), str(facts.starts[0].content.get("engine", "")) or None
        plan_json = estimate(facts.zoo, facts.wanted, place, engine).to_json()
        plan = f"The plan uses rates measured on {place.description}, engine {engine}."
        if plan_json["seconds"] is None:
            plan = f"Without a plan: the rate of engine {engine} was not measured on {place.description}."
    else:
        plan_json = written
        plan = "The plan is the one that each driver recorded at its start, by the share of it that was done."
    kept = {"seconds": "wall_seconds", "dollars": "dollars"}
    planned = {ours: float(plan_json[theirs]) for theirs, ours in kept.items() if plan_json.get(theirs) is not None}
    return RunAccount(
        zoo=facts.zoo.name,
        plan=plan,
        planned=planned,
        actual=actual,
        attempts=tuple((s.started, s.ended, s.state or "no end") for s in facts.starts),
        problems=tuple((logged.time, logged.kind or logged.level, logged.message) for logged in facts.problems),
    )


def _written_plans(facts: RunFacts) -> dict[str, float | None] | None:
    """Seconds and dollars planned for the work that is done: of each start's plan the share that it did.

    None if a start recorded no plan; a quantity is None if a start did not know it.
    """
    sums: dict[str, float | None] = {"seconds": 0.0, "dollars": 0.0}
    for start, later in zip_longest(facts.starts, facts.starts[1:]):
        plan = start.content.get("plan")
        if not isinstance(plan, dict):
            return None
        end = math.inf if later is None else later.started
        before = sum(count for time, count in facts.commits if time < start.started)
        done = sum(count for time, count in facts.commits if start.started <= time < end)
        first, stop = start.content["models"]
        missing = max((stop - first) * (start.content["epochs"] + 1) - before, done)
        for name, amount in sums.items():
            if amount is not None:
                more = plan.get(name)
                sums[name] = None if more is None else amount + (more * done / missing if missing else 0.0)
    return sums
