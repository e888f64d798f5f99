"""Run the trials of a search with Ray Tune, one model each, the bad ones ended early (ASHA). Imports Ray."""

import os
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from zooforge.storage.stores.open import open_store

from ..data.prepared import PreparedData
from ..engines.choose import make_engine
from ..engines.growth import Growth
from ..errors import ZooError
from ..running.inputs import Run
from ..running.slots.ray_cluster import connected
from ..spec.zoo import ZooSpec
from .search_spec import Trial, TuneSpec, draws, trial_zoo

REDUCTION = 3  # one of three trials that reached the same epoch continues


def search(
    spec: TuneSpec,
    base: ZooSpec,
    engine: str,
    data: PreparedData,
    address: str,
    slots: int | None,
    ended: Callable[[Trial], None],
) -> list[Trial]:
    """Train every trial or end it early. The environment must have been prepared by ``ray_environment``.

    Args:
        address: ``local`` or that of a cluster.
        ended: called in this process with every trial that has ended.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    num_bytes = sum(int(split.images.nbytes) for split in (data.train, data.val))
    with connected(address, slots, num_bytes), tempfile.TemporaryDirectory(prefix="zooforge-tune-") as folder:
        shared = ray.put(data)
        tuner = tune.Tuner(
            tune.with_parameters(_trial, base=base.to_json(), engine=engine, epochs=spec.num_epochs, shared=[shared]),
            param_space={"values": tune.grid_search(draws(spec, base))},
            tune_config=tune.TuneConfig(
                metric="accuracy",
                mode="max",
                reuse_actors=True,  # else every trial waits for a process that imports torch
                scheduler=ASHAScheduler(
                    time_attr="epoch",
                    max_t=spec.num_epochs,
                    grace_period=max(1, spec.num_epochs // REDUCTION**2),
                    reduction_factor=REDUCTION,
                ),
            ),
            run_config=tune.RunConfig(storage_path=folder, name="tune", verbose=0, callbacks=[_EndedCallback(ended)]),
        )
        results = tuner.fit()
        errors = [result.error for result in results if result.error is not None]
        if errors:
            raise ZooError(f"{len(errors)} of {len(results)} trials failed; the first: {errors[0]}")
        return [_seen(result.config["values"], result.metrics or {}) for result in results]


def _trial(config: dict[str, Any], base: dict[str, Any], engine: str, epochs: int, shared: list[Any]) -> None:
    """Train one model epoch by epoch; one that is no longer finite reports an accuracy of -1, the worst."""
    run = Run(trial_zoo(ZooSpec.from_json(base), config["values"]))
    data: PreparedData = ray.get(shared[0])
    program = run.program(run.rows[0].family)
    state = run.first_state([0], open_store("memory://tune"))
    growth = Growth(make_engine(engine), program, run.hyperparameters([0]), state, data)
    for epoch in range(1, epochs + 1):
        labels = growth.step(epoch, clean_train=False).labels
        ratio = np.ma.compressed(labels["val_correct"] / labels["val_count"])
        tune.report({"accuracy": float(ratio[0]) if len(ratio) else -1.0, "epoch": epoch})
        if not len(ratio):
            break
    growth.close()


def _seen(values: dict[str, Any], metrics: dict[str, Any]) -> Trial:
    accuracy = float(metrics.get("accuracy", -1.0))
    return Trial(values, accuracy if accuracy >= 0 else None, int(metrics.get("epoch", 0)))


class _EndedCallback(tune.Callback):  # type: ignore[misc]
    def __init__(self, ended: Callable[[Trial], None]) -> None:
        self._ended = ended

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended(_seen(trial.config["values"], trial.last_result))
