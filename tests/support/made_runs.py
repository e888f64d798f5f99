"""Runs in a store without training: commits, attempts, claims and logs in the form in which drivers write them."""

import logging
from typing import Any

import numpy as np

from tests.support.controls import set_control
from zooforge.storage.runs.claims import Claims
from zooforge.storage.runs.commit import PartData, commit_part
from zooforge.storage.runs.run_files import (
    Control,
    add_usage,
    create_run,
    end_attempt,
    pin_run,
    start_attempt,
)
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.catalogue.in_store import register
from zooforge.zoo_jobs.models.registry import architecture
from zooforge.zoo_jobs.spec.grid import rows
from zooforge.zoo_jobs.spec.twins import TwinSpec, Zoo, twins_of
from zooforge.zoo_jobs.watching.run_log import StoreLogHandler

NAME = "digits8-cnn-s"


def parent() -> Any:
    return entries.load(NAME)


def twins(source_epoch: int) -> TwinSpec:
    return twins_of(parent(), source_epoch=source_epoch)


class MadeRun:
    """One driver's attempt at a run; ``commit`` adds an epoch of some models."""

    def __init__(self, store: ObjectStore, zoo: Zoo, models: tuple[int, int] = (0, 4), epochs: int = 2) -> None:
        self.store, self.zoo = store, zoo
        register(store, zoo)
        create_run(store, zoo.run_id, zoo.run_content)
        pin_run(store, zoo.run_id, {"engine": {"engine": "sequential", "version": 1, "torch": "2.13.0"}})
        set_control(store, zoo.run_id, Control("run", "", {"models": list(models), "epochs": epochs}))
        content = {"zoo": zoo.name, "models": list(models), "epochs": epochs, "engine": "sequential", "slots": 2}
        self.attempt = start_attempt(store, zoo.run_id, content)
        self.claims = Claims(store, zoo.run_id, self.attempt)
        self.claims.hold(f"driver-{self.attempt}")

    def commit(self, members: tuple[int, ...], epoch: int, faulty: dict[int, int] | None = None) -> None:
        """Commit ``epoch`` of ``members``; ``faulty`` maps a model to the epoch from which its weights are NaN."""
        layout = architecture("cnn-s", 1, "tanh", False, num_classes=10, image_size=28).layout
        dead = np.array([m in (faulty or {}) and epoch >= (faulty or {})[m] for m in members])
        weights = np.stack([np.random.default_rng([m, epoch]).normal(size=layout.size) for m in members])
        weights[dead] = np.nan
        correct = np.array([10 + 5 * epoch + m for m in members])
        labels: dict[str, Any] = {
            "model": np.array(members, np.int32),
            "epoch": np.full(len(members), epoch, np.int32),
            "faulty_epoch": np.where(dead, [(faulty or {}).get(m, -1) for m in members], -1).astype(np.int32),
            "faulty_reason": np.where(dead, 0, -1).astype(np.int8),
        }
        for split, count in (("running_train", 80), ("val", 50), ("test", 60)):
            if split == "running_train" and epoch == 0:
                continue
            labels[f"{split}_correct"] = np.ma.masked_array(np.minimum(correct, count).astype(np.int32), dead)
            labels[f"{split}_count"] = np.ma.masked_array(np.full(len(members), count, np.int32), dead)
            labels[f"{split}_loss"] = np.where(dead, np.nan, 2.3 / (1 + epoch))
        fields: dict[str, Any] = {"": {epoch: weights.astype(np.float32)}}
        if isinstance(self.zoo, TwinSpec):
            pruned = np.full(len(members), 200 * epoch, np.int32)
            labels |= {
                "kl": np.full(len(members), 5.0),
                "kl_weight": np.full(len(members), 0.0004 * epoch),
                "num_pruned": np.ma.masked_array(pruned, dead),
                "num_prunable": np.ma.masked_array(np.full(len(members), 2416, np.int32), dead),
            }
        state = {
            "weights": weights.astype(np.float32),
            "step": np.full(len(members), 8 * epoch, np.int64),
            "faulty_epoch": labels["faulty_epoch"],
            "faulty_reason": labels["faulty_reason"],
        }
        data = PartData(
            min(members),
            members,
            epoch,
            range(epoch, epoch + 1),
            fields,
            labels,
            state,
            {"engine": "sequential"},
            80,
            1.5,
        )
        commit_part(self.store, self.zoo.run_id, data, self.attempt)

    def use(self, **amounts: float) -> None:
        add_usage(self.store, self.zoo.run_id, self.attempt, amounts)

    def log(self, level: int, message: str, **extra: Any) -> None:
        handler = StoreLogHandler(self.store, self.zoo.run_id, self.attempt, f"driver{len(message)}")
        record = logging.makeLogRecord(
            {
                "name": "zooforge.zoo_jobs.running.driver",
                "levelno": level,
                "levelname": logging.getLevelName(level),
                "msg": message,
                **extra,
            }
        )
        handler.handle(record)
        handler.close()

    def end(self, state: str) -> None:
        end_attempt(self.store, self.zoo.run_id, self.attempt, {"state": state})
        self.leave()

    def leave(self) -> None:
        """End without writing a record, like a killed driver whose claim has expired."""
        self.claims.release(f"driver-{self.attempt}")


def whole_run(store: ObjectStore, zoo: Zoo, num_models: int = 4, epochs: int = 2, **options: Any) -> MadeRun:
    """A finished run of the first models of ``zoo``, committed family by family."""
    run = MadeRun(store, zoo, (0, num_models), epochs)
    families: dict[Any, list[int]] = {}
    for row in rows(zoo)[:num_models]:
        families.setdefault(row.family, []).append(row.index)
    for epoch in range(epochs + 1):
        for members in families.values():
            run.commit(tuple(members), epoch, **options)
    run.use(pod_seconds=100.0, committed_seconds=75.0, dollars=2.0)
    run.end("finished")
    return run
