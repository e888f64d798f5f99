"""Grades a folder of generated networks, and three controls that are made from the training models alone."""

from collections.abc import Callable

import numpy as np

from zooforge.storage.views.standardize import Standardizer

from ...errors import InputError
from .. import controls
from ..comparison import Result, reproducible
from ..generated import Grader, Vectors, read_folder
from ..request import Request
from ..samples import read_samples
from ..tables import Report, report

TARGET = "generated"
LEAST_TRAIN = 2


def run(request: Request) -> Report:
    if request.samples is None:
        raise InputError("protocol generate: name the folder of generated networks with --samples DIR")
    zoo = request.zoo
    activation = _activation(request)
    submitted = read_folder(request.samples, zoo)
    samples = read_samples(zoo, -1, request.weight_threshold)
    kept = samples.keep(samples.labels["activation"] == activation, f"the activation is not {activation}")
    values = {split: kept.given.states.values[kept.labels["split"] == split] for split in ("train", "val")}
    train, val = values["train"], values["val"]
    if len(train) < LEAST_TRAIN or not len(val):
        raise InputError(
            f"{zoo.name}: {len(train)} models with {activation} in the train split and {len(val)} in val, at least "
            f"{LEAST_TRAIN} and 1 are needed; grow more models"
        )
    pixels, answers = zoo.images("test", request.images)
    grader = Grader(zoo, train, int(kept.labels["model"][0]), pixels, answers)
    scaler, aligned, num = Standardizer.fit([train], zoo.layout), grader.aligned(train), len(submitted)
    with reproducible():
        request.say(f"{zoo.name}: {num:,} generated networks, {len(train):,} training models, {len(answers):,} images")
        results = [_result("submitted", [grader.grade(submitted)])]
        makers: dict[str, Callable[[np.random.Generator], Vectors]] = {
            "noise": lambda rng: controls.noise(train, num, scaler, rng),
            "interpolation": lambda rng: controls.interpolation(aligned, num, rng),
            "kernel-density": lambda rng: controls.kernel_density(train, val, num, scaler, rng),
        }
        for number, (name, make) in enumerate(makers.items()):
            graded = [grader.grade(make(np.random.default_rng([seed, number]))) for seed in request.seeds]
            results.append(_result(name, graded))
        results.append(_result("training models", [grader.grade_training()]))
    asked = {"seeds": list(request.seeds), "activation": activation, "weight_threshold": request.weight_threshold}
    notes = [
        f"{num:,} networks of each kind, {len(train):,} training models with {activation}, {len(answers):,} images"
    ]
    return report("generate", request, results, [], kept.excluded, asked, notes)


def _result(name: str, graded: list[dict[str, float]]) -> Result:
    return Result(TARGET, None, "", name, {metric: tuple(one[metric] for one in graded) for metric in graded[0]})


def _activation(request: Request) -> str:
    """The activation of the generated networks: that of the request, or the only one of the zoo."""
    names = sorted(set(request.zoo.model_table()["activation"].to_pylist()))
    if request.activation is None and len(names) == 1:
        return str(names[0])
    if request.activation is None or request.activation not in names:
        asked = "" if request.activation is None else f" {request.activation}"
        raise InputError(
            f"--activation{asked}: {request.zoo.name} has models with {', '.join(map(str, names))}; name that of the "
            "generated networks"
        )
    return request.activation
