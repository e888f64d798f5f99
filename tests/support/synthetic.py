"""A zoo without training: weights and labels are functions of (model, epoch), so any test knows the right values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.formats.layout import Layout
from zooforge.storage.formats.manifest import Parent
from zooforge.storage.formats.norms import weight_norms
from zooforge.storage.formats.splits import SplitRule
from zooforge.storage.interchange.raw.architectures import SHARD_SHAPES
from zooforge.storage.publish.description import ZooDescription
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.runs.commit import Committed, PartData, commit_part
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.protocol import ObjectStore

RUN = "0123456789abcdef" * 2
ATTEMPT = "20260101T000000Z-0001"
RIVAL = "20260101T000001Z-0002"

LAYOUT = Layout.of(
    [("conv1.weight", (2, 1, 2, 2)), ("conv1.bias", (2,)), ("linear1.weight", (3, 8)), ("linear1.bias", (3,))]
)
NAMES = {
    "plain": {
        "conv1.weight": "module_list.0.weight",
        "conv1.bias": "module_list.0.bias",
        "linear1.weight": "module_list.3.weight",
        "linear1.bias": "module_list.3.bias",
    },
    "dropout": {
        "conv1.weight": "module_list.0.weight",
        "conv1.bias": "module_list.0.bias",
        "linear1.weight": "module_list.4.weight",
        "linear1.bias": "module_list.4.bias",
    },
}
NOISY = Layout.of([("conv1.weight", (2, 1, 2, 2)), ("conv1.bias", (2,)), ("linear1.weight", (3, 8))])


def weights(model: int, epoch: int, size: int = LAYOUT.size, faulty_from: int | None = None) -> NDArray[np.float32]:
    """[size]; NaN from the faulty epoch on."""
    if faulty_from is not None and epoch >= faulty_from:
        return np.full(size, np.nan, np.float32)
    return np.random.default_rng([model, epoch, 1]).standard_normal(size, np.float32)


def noise(model: int, epoch: int) -> NDArray[np.float32]:
    return np.random.default_rng([model, epoch, 2]).standard_normal(NOISY.size, np.float32)


def mask(model: int, epoch: int) -> NDArray[np.bool_]:
    return noise(model, epoch) > -0.5


def row(model: int) -> dict[str, Any]:
    return {
        "row_digest": f"{model:016x}",
        "activation": ("tanh", "relu")[model // 2 % 2],
        "dropout_ratio": (0.0, 0.5)[model % 2],
        "initializer": "uniform",
        "learning_rate": 0.001,
        "optimizer": "adam",
        "weight_decay": 0.0001,
        "momentum": 0.0,
        "nesterov": False,
        "seed": 1 + model // 4,
    }


def description(
    name: str = "tiny-zoo",
    num_models: int = 64,
    num_epochs: int = 8,
    layout: Layout = LAYOUT,
    architecture: str = "tiny",
    split: SplitRule | None = None,
    parent: Parent | None = None,
) -> ZooDescription:
    rows = {model: row(model) for model in range(num_models)}
    if parent is not None:
        for model, one in rows.items():
            one.update(parent_zoo=parent.zoo, parent_model=model, parent_epoch=parent.epoch)
    return ZooDescription(
        name=name,
        title="A zoo for tests",
        source="tests/support/synthetic.py",
        dataset="none",
        architecture=architecture,
        in_channels=1,
        image_size=5,
        num_classes=3,
        num_models=num_models,
        num_epochs=num_epochs,
        layout=layout,
        rows=rows,
        state_dict_names=NAMES,
        noisy_layout=NOISY if parent is not None else None,
        split=split or SplitRule(),
        root_zoo=parent.zoo if parent is not None else "",
        num_root_models=num_models,
        parent=parent,
        shard_shape=SHARD_SHAPES.get(architecture),
    )


def part_data(
    members: Sequence[int],
    part: int,
    *,
    unit: int = 0,
    every: int = 1,
    kept: Sequence[int] | None = None,
    size: int = LAYOUT.size,
    faulty: dict[int, int] | None = None,
    twin: bool = False,
    nudge: float = 0.0,
    norms: bool = True,
    classes: bool = False,
) -> PartData:
    """The result of training. ``nudge`` makes another trajectory; ``faulty`` gives the first faulty epoch.

    ``norms`` and ``classes`` are the columns that labels of version 1 do not have.
    """
    faulty = faulty or {}
    epochs = range(0, 1) if part == 0 else range((part - 1) * every + 1, part * every + 1)
    saved = [e for e in epochs if kept is None or e in kept]
    num = len(members)

    def stacked(epoch: int) -> NDArray[np.float32]:
        return np.stack([weights(m, epoch, size, faulty.get(m)) for m in members]) + np.float32(nudge)

    fields: dict[str, dict[int, NDArray[Any]]] = {"": {e: stacked(e) for e in saved}} if saved else {}
    model = np.repeat(np.asarray(members), len(epochs))
    epoch = np.tile(np.asarray(list(epochs)), num)
    first_bad = np.array([faulty.get(int(m), 10**6) for m in model])
    good = epoch < first_bad
    labels: dict[str, Any] = {
        "model": model,
        "epoch": epoch,
        "running_train_loss": np.where(good & (epoch > 0), 1.0 / (1 + epoch), np.nan),
        "running_train_correct": np.where(good & (epoch > 0), 50 + epoch, -1),
        "running_train_count": np.where(good & (epoch > 0), 100, -1),
        "test_loss": np.where(good, 1.0 / (1 + model + epoch), np.nan),
        "test_correct": np.where(good, (model + 3 * epoch) % 100, -1),
        "test_count": np.where(good, 100, -1),
        "faulty_epoch": np.where(good, -1, first_bad),
        "faulty_reason": np.where(good, -1, 0),
    }
    if norms:
        measured = [weight_norms(stacked(e)) for e in epochs]
        for place, name in enumerate(("weight_norm", "max_abs_weight")):
            labels[name] = np.stack([pair[place] for pair in measured], axis=1).reshape(-1)
    if classes:
        half = labels["test_correct"] // 2
        masked = np.repeat(~good[:, None], 3, axis=1)
        right = np.stack([half, labels["test_correct"] - half, 0 * half], axis=1)
        labels["test_class_correct"] = np.ma.MaskedArray(right, mask=masked)
        labels["test_class_predicted"] = np.ma.MaskedArray(np.full_like(right, [40, 35, 25]), mask=masked)
    last = epochs[-1]
    state: dict[str, NDArray[Any]] = {
        "weights": stacked(last),
        "step": np.full(num, 7 * last, np.int64),
        "exp_avg": np.stack([weights(m, last + 1000, size) for m in members]),
        "faulty_epoch": np.array([f if (f := faulty.get(m, -1)) <= last else -1 for m in members], np.int32),
        "faulty_reason": np.array([0 if faulty.get(m, 10**6) <= last else -1 for m in members], np.int8),
    }
    if twin:
        fields[".log_sigma2"] = {e: np.stack([noise(m, e) for m in members]) for e in saved}
        fields[".mask"] = {e: np.stack([mask(m, e) for m in members]) for e in saved}
        state["log_sigma2"] = np.stack([noise(m, last) for m in members])
        labels["kl"] = 1.0 + model
        labels["kl_weight"] = 0.0004 * (epoch - 1)
        labels["num_pruned"] = (model + epoch) % 30
        labels["num_prunable"] = np.full(len(model), 32)
    return PartData(
        unit=unit,
        members=tuple(int(m) for m in members),
        part=part,
        epochs=epochs,
        fields=fields,
        labels=labels,
        state=state,
        numerics={"engine": "synthetic", "version": 1},
        samples=num * len(epochs) * 100,
        seconds=0.5,
    )


def train(
    store: ObjectStore,
    members: Sequence[int],
    num_epochs: int,
    *,
    run: str = RUN,
    attempt: str = ATTEMPT,
    every: int = 1,
    **options: Any,
) -> list[Committed]:
    """Commit all parts of ``members`` that are missing, up to ``num_epochs``, as a driver would."""
    ledger = read_ledger(store, run)
    done = []
    tasks: dict[int, list[int]] = {}
    for model in members:
        tasks.setdefault(ledger.next_part(model), []).append(model)
    for first, models in sorted(tasks.items()):
        after = ledger.last_record(0, models)
        for part in range(first, num_epochs // every + 1):
            data = part_data(models, part, every=every, **options)
            done.append(commit_part(store, run, data, attempt, after=after))
            after = done[-1].record
    return done


def tiny_zoo() -> MemoryStore:
    """24 models to epoch 3, one of them faulty from epoch 2, published."""
    store = MemoryStore()
    train(store, range(24), 3, faulty={5: 2})
    vectorize(store, description(), RUN)
    return store


def copy_zoo(source: ObjectStore, zoo: str, target: ObjectStore) -> None:
    """Copy everything that a reader of the zoo's versions may need."""
    for stat in [*source.list(f"zoos/{zoo}/"), *source.list("objects/")]:
        if b'\\"kind\\":\\"state\\"' not in source.get(stat.key)[0][:400]:  # only training needs state objects
            target.put(stat.key, source.get(stat.key)[0])
