"""A small zoo whose models learn one image each, and what engines need to run it."""

from typing import Any

from zooforge.zoo_jobs.data.prepare import prepare
from zooforge.zoo_jobs.data.prepared import PreparedData
from zooforge.zoo_jobs.engines.growth import Growth
from zooforge.zoo_jobs.running.inputs import Run
from zooforge.zoo_jobs.spec.zoo import ZooSpec

SINE = {"activation": {"name": "sine", "omega": 30}}
HIDDEN = {"linear": {"features": 16}}
SPEC: dict[str, Any] = {
    "name": "learners",
    "description": "One 8 x 8 digit for each model.",
    "source": "a test",
    "origin": "ours",
    "task": "image_regression",
    "image": "0:6",
    "steps_per_epoch": 5,
    "dataset": "digits8",
    "preprocessing": {},
    "architecture": {"layers": [HIDDEN, SINE, HIDDEN, SINE, {"linear": {"features": "channels"}}]},
    "axes": {"initializer": ["siren"], "optimizer": ["adam"], "learning_rate": [1e-3], "weight_decay": [0.0]},
    "seeds": [42],
    "num_epochs": 4,
}


def learners(**fields: Any) -> ZooSpec:
    return ZooSpec.from_json(SPEC | fields)


def images(spec: ZooSpec) -> PreparedData:
    return prepare("digits8", spec.preprocessing, spec.split)


def growth(spec: ZooSpec, engine: Any, models: tuple[int, ...], chunk: int | None = None, state: Any = None) -> Growth:
    run: Any = Run(spec)
    program = run.program(run.rows[models[0]].family)
    first = run.first_state(models, None) if state is None else state
    return Growth(engine, program, run.hyperparameters(models), first, images(spec), chunk)
