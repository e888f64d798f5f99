"""The worker of one slot, in a Ray actor or a thread: a unit runner with its own store. No Ray."""

import logging
from dataclasses import dataclass, replace

from zooforge.storage.formats.labels import LABEL_VERSION
from zooforge.storage.stores.open import open_store

from ...data.prepared import PreparedData
from ...engines import device_errors
from ...engines.choose import make_engine
from ...engines.devices import no_cuda, sees_cuda
from ...events import Advance
from ...planning.units import Task
from ...watching.totals import Meter
from ..inputs import Run
from ..notice import Notice
from .unit_runner import UnitRunner

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Settings of a worker, besides the run and the data."""

    store_url: str
    engine: str
    attempt: str
    notice_seconds: float
    chunk_models: int | None = None
    num_gpus: float = 0
    refill: frozenset[int] = frozenset()
    single_writer: bool = False
    """Nobody else writes to the store, which then needs no atomic conditional writes."""
    label_version: int = LABEL_VERSION

    def with_half_chunk(self, num_models: int) -> "WorkerContext":
        """The context with half as many models in memory, where a task of ``num_models`` did not fit."""
        return replace(self, chunk_models=max(1, min(self.chunk_models or num_models, num_models) // 2))


class Worker:
    """Trains tasks, and counts what each call read from the store."""

    def __init__(self, context: WorkerContext, run: Run, data: PreparedData, notice: Notice) -> None:
        if context.num_gpus and not sees_cuda():
            logger.warning("a worker that should have a GPU trains on its CPU", extra={"reason": no_cuda()})
        store = open_store(context.store_url, single_writer=context.single_writer)
        self._meter = Meter(store.traffic)
        self._runner = UnitRunner(
            run,
            make_engine(context.engine),
            data,
            store,
            context.attempt,
            notice,
            context.chunk_models,
            context.refill,
            label_version=context.label_version,
        )

    def advance(self, task: Task, part: int) -> Advance:
        with device_errors.named(
            "worker"
        ):  # here, because the error that another one hides does not travel through Ray
            advance = self._runner.advance(task, part)
        read_bytes, store_retries = self._meter.take()
        return replace(advance, read_bytes=read_bytes, store_retries=store_retries)

    def close(self) -> None:
        self._runner.close()
