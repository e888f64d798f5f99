"""If numbers depend on how models are grouped, records name their source, and losers of a race follow the winner."""

from typing import Any

import numpy as np
import pytest

from tests.support.tiny_runs import RUN, random_data
from zooforge.storage.keys import run_key
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.zoo_jobs.data.prepared import PreparedData
from zooforge.zoo_jobs.engines.contract import Hyperparameters, Program, StateArrays
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.planning.units import Task
from zooforge.zoo_jobs.running.notice import Notice
from zooforge.zoo_jobs.running.slots.unit_runner import UnitRunner

TASK = Task(0, (0, 2), 0)
DATA = random_data()


class Grouped(SequentialEngine):
    """An engine whose bits depend on its chunk: the weights of every rival driver differ slightly."""

    def bitwise(self, program: Program) -> bool:
        return False

    def __init__(self, rounding: float) -> None:
        super().__init__()
        self.rounding = rounding

    def open(self, program: Program, hyperparameters: Hyperparameters, state: StateArrays, data: PreparedData) -> Any:
        moved = {**state, "weights": state["weights"] * np.float32(1 + self.rounding)}
        return super().open(program, hyperparameters, moved, data)


def runner(store: ObjectStore, attempt: str, rounding: float, task: Task = TASK, buffer_bytes: int = 0) -> UnitRunner:
    """A runner that has loaded the current state of the store."""
    made = UnitRunner(RUN, Grouped(rounding), DATA, store, attempt, Notice(), buffer_bytes=buffer_bytes)
    made.advance(task, task.part - 1)
    return made


@pytest.fixture
def store() -> ObjectStore:
    return MemoryStore()


def record(store: ObjectStore, part: int) -> Any:
    ledger = read_ledger(store, RUN.id)
    key = ledger.holder(0, part)
    assert key is not None
    return ledger.record(key)


def test_a_record_names_the_record_that_its_state_came_from(store: ObjectStore) -> None:
    runner(store, "20261124T000000Z-0001", 0.0).advance(TASK, 1)
    runner(store, "20261124T000000Z-0002", 0.0, Task(0, (0, 2), 2)).advance(TASK, 2)
    assert record(store, 0).parents == (run_key(RUN.id),)
    for part in (1, 2):
        assert record(store, part).parents == (str(record(store, part - 1).key),)


@pytest.mark.parametrize("buffer_bytes", [0, 1 << 20], ids=["waiting", "ahead"])
@pytest.mark.parametrize("lost_at", [0, 1])
def test_the_loser_of_a_race_continues_from_the_winners_state(
    lost_at: int, buffer_bytes: int, store: ObjectStore
) -> None:
    if lost_at:
        runner(store, "20261124T000000Z-0000", 0.0).advance(TASK, lost_at - 1)
    task = Task(0, (0, 2), lost_at)
    winner = runner(store, "20261124T000000Z-0001", 0.0, task)
    loser = runner(store, "20261124T000000Z-0002", 1e-3, task, buffer_bytes)
    winner.advance(task, lost_at)
    events = [*loser.advance(task, lost_at + 1).events, *loser.advance(task, lost_at + 1).events]
    assert [event.won for event in events] == [False, True]
    assert record(store, lost_at).attempt == "20261124T000000Z-0001"
    last = record(store, lost_at + 1)
    assert last.attempt == "20261124T000000Z-0002"
    assert last.parents == (str(record(store, lost_at).key),)


def test_bitwise_engines_name_no_parents(store: ObjectStore) -> None:
    made = UnitRunner(RUN, SequentialEngine(), DATA, store, "20261124T000000Z-0001", Notice(), buffer_bytes=0)
    made.advance(TASK, 1)
    assert record(store, 0).parents == record(store, 1).parents == ()
