"""Checks that a published zoo is what it says: computes stored accuracies again, and trains a sample again."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from zooforge.storage.keys import zoo_url
from zooforge.storage.runs.run_files import read_pin
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import Zoo as PublishedZoo
from zooforge.storage.zoo import open_zoo

from ..data.prepare import load
from ..data.prepared import PreparedData, Split
from ..data.sources import default_cache
from ..engines.batches import image_block, pixels
from ..engines.choose import make_engine
from ..engines.growth import Growth
from ..engines.precision import autocast
from ..errors import InputError
from ..models.arithmetic import Precision
from ..models.torch_module import torch_module
from ..running.inputs import Run
from ..spec.twins import Zoo
from ..spec.zoo import ZooSpec
from .imported import like, network_of

MAX_DIFFERENCE = 2  # test images that torch may classify differently from the engine that trained the state
MAX_RELATIVE_DIFFERENCE = 1e-3  # squared errors may differ so much: engines have other orders of sums and other sines
EVALUATION_IMAGES = 1000

Outcome = Literal["equal", "within tolerance", "differs", "not recomputed"]


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome for one state or trajectory; ``detail`` is for a person."""

    model: int
    epoch: int
    outcome: Outcome
    detail: str


def recompute(store_url: str, zoo: Zoo | str, num_states: int, store: ObjectStore | None = None) -> list[Check]:
    """Evaluate a sample of published states in torch, on the test split or on the images that they learned, and compare
    with their labels.

    The sample is a function of the published bytes. Faulty states are not sampled: they have no accuracy.

    Args:
        zoo: a spec, or the name of an imported zoo, whose images are then those of the zoo of the catalogue like it.
        store: provides images that are not on this machine.
    """
    published = open_zoo(zoo_url(store_url, zoo if isinstance(zoo, str) else zoo.name))
    try:
        spec = zoo.root if not isinstance(zoo, str) and zoo.run_id == published.manifest.run else like(published)
        data = load(spec, default_cache(), store)
    except InputError as error:
        return [Check(-1, -1, "not recomputed", str(error))]
    measured = "train_mse" if spec.task_row.vectors else "test_correct"
    labels = published.labels(columns=["model", "epoch", measured])
    kept = set(published.epochs)
    rows = [
        (model, epoch, value)
        for model, epoch, value in zip(*(labels[name].to_pylist() for name in labels.column_names), strict=True)
        if value is not None and epoch in kept
    ]
    sample = sorted(random.Random(published.manifest.run).sample(rows, min(num_states, len(rows))))
    by_model = {row["model"]: row for row in published.model_table().to_pylist()} if sample else {}
    return [_compare(published, spec, by_model[model], data, model, epoch, stored) for model, epoch, stored in sample]


def _compare(
    published: PublishedZoo,
    spec: ZooSpec,
    row: dict[str, Any],
    data: PreparedData,
    model: int,
    epoch: int,
    stored: float,
) -> Check:
    dropout_ratio, split = row["dropout_ratio"] or 0.0, data.test
    try:
        module = torch_module(network_of(published, spec, row["activation"], dropout_ratio), dropout_ratio)
    except InputError as error:
        return Check(model, epoch, "not recomputed", str(error))
    module.load_state_dict(published.state_dict(model, epoch, torch=True), strict=True)
    if spec.task_row.vectors:
        return _compare_error(model, epoch, squared_error(module, data, row["image"]), stored)
    correct = count_correct(module, data, split, spec.precision)
    difference = abs(correct - stored)
    outcome: Outcome = "equal" if difference == 0 else "within tolerance" if difference <= MAX_DIFFERENCE else "differs"
    return Check(model, epoch, outcome, f"{stored} of {len(split)} test images stored, {correct} recomputed")


def _compare_error(model: int, epoch: int, found: float, stored: float) -> Check:
    outcome: Outcome = "equal" if found == stored else "within tolerance"
    if abs(found - stored) > MAX_RELATIVE_DIFFERENCE * stored:
        outcome = "differs"
    return Check(model, epoch, outcome, f"mean squared error {stored:.9g} stored, {found:.9g} recomputed")


def squared_error(module: nn.Module, data: PreparedData, image: int) -> float:
    """The mean squared error of ``module`` on an image of the training images, on the CPU."""
    block = image_block(data, image, 1)
    with torch.no_grad():
        outputs = module.eval()(torch.from_numpy(block.images))
    return float(((outputs - torch.from_numpy(block.labels)) ** 2).double().mean())


def count_correct(module: nn.Module, data: PreparedData, split: Split, precision: Precision = "float32") -> int:
    """The number of images of ``split`` that ``module`` classifies correctly in eval mode, on the CPU."""
    module.eval()
    correct = 0
    with torch.no_grad(), autocast(torch.device("cpu"), precision):
        for start in range(0, len(split), EVALUATION_IMAGES):
            images = pixels(data.pixel_values, split.images[start : start + EVALUATION_IMAGES])
            labels = torch.from_numpy(split.labels[start : start + EVALUATION_IMAGES].astype(np.int64))
            correct += int((module(torch.from_numpy(images)).argmax(dim=1) == labels).sum())
    return correct


def retrain(store: ObjectStore, store_url: str, zoo: Zoo, num_models: int) -> list[Check]:
    """Train a sample of published models again with the engine of their run; compare the bytes of every kept epoch."""
    published = open_zoo(zoo_url(store_url, zoo.name))
    run = Run(zoo)
    if published.manifest.run != run.id:
        detail = f"{zoo.name} was imported: its run {published.manifest.run[:8]} is not that of its spec, {run.id[:8]}"
        return [Check(-1, -1, "not recomputed", detail)]
    pin = read_pin(store, run.id) or {}
    name = str(pin.get("engine", {}).get("engine", ""))
    if not name:
        return [Check(-1, -1, "not recomputed", f"run {run.id[:8]} has no pin that names its engine")]
    engine = make_engine(name)
    sample = sorted(
        random.Random(published.manifest.run).sample(published.models, min(num_models, len(published.models)))
    )
    program = run.program(run.rows[sample[0]].family)
    if reason := engine.refuses(program):
        return [Check(-1, -1, "not recomputed", f"engine {name} does not run here: {reason}")]
    if not engine.bitwise(program):
        detail = f"engine {name} does not promise the same bits again here: they depend on the other models of a chunk"
        if name == "sequential":
            detail = f"engine {name} on a GPU does not promise the same bits again: kernels may add in any order"
        return [Check(-1, -1, "not recomputed", detail)]
    if engine.numerics(program) != pin["engine"]:
        detail = f"the run's numbers depend on {pin['engine']}, this machine's on {engine.numerics(program)}"
        return [Check(-1, -1, "not recomputed", detail)]
    data = load(zoo.root, default_cache(), store)
    return [check for model in sample for check in _retrain_one(published, run, store, engine, data, model)]


def _retrain_one(
    published: PublishedZoo,
    run: Run,
    store: ObjectStore,
    engine: Any,
    data: PreparedData,
    model: int,
) -> Sequence[Check]:
    row = run.rows[model]
    state = run.first_state((model,), store)
    growth = Growth(engine, run.program(row.family), run.hyperparameters((model,)), state, data)
    states = published.weights(models=[model], masked=False)
    last = 0
    try:
        for epoch in range(int(states.epochs.max()) + 1):
            result = growth.step(epoch, clean_train=False)
            stored = _state_at(states.values, states.epochs, epoch)
            if stored is not None and stored.tobytes() != result.fields[""][0].tobytes():
                return [
                    Check(
                        model,
                        epoch,
                        "differs",
                        "the weights that were trained again differ in their bits from those published",
                    )
                ]
            last = epoch
    finally:
        growth.close()
    return [Check(model, last, "equal", f"epochs 0 to {last} trained again, every published bit is the same")]


def _state_at(values: NDArray[np.float32], epochs: NDArray[np.int32], epoch: int) -> NDArray[np.float32] | None:
    rows = np.flatnonzero(epochs == epoch)
    return values[rows[0]] if len(rows) else None
