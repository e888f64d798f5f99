"""Commits the parts of one slot in order, in a thread, while the slot trains the next part. No Ray."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

MiB = 1024 * 1024
LIMIT_BYTES = 64 * MiB  # parts that wait for the store: minutes of training for CNN-s, one epoch for ResNet-18
LIMIT_JOBS = 8  # parts that have to be trained again if the worker is killed without notice

T = TypeVar("T")


class CommitQueue(Generic[T]):
    """Runs jobs one after the other. An error drops the jobs after it and is raised by the next call.

    Not thread-safe: all calls come from the thread that trains.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES, limit_jobs: int = LIMIT_JOBS) -> None:
        self._limit_bytes, self._limit_jobs = limit_bytes, limit_jobs
        self._changed = threading.Condition()
        self._jobs: deque[tuple[Callable[[], T], int]] = deque()  # the first one is running
        self._bytes = 0
        self._done: list[T] = []
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def pending(self) -> int:
        """Number of jobs whose result has not been taken."""
        with self._changed:
            return len(self._jobs) + len(self._done)

    @property
    def unfinished(self) -> int:
        """Number of jobs that have not ended."""
        with self._changed:
            return len(self._jobs)

    def put(self, job: Callable[[], T], num_bytes: int) -> None:
        """Queue ``job``, which holds ``num_bytes``. Waits while the queue is full; an empty queue takes any job.

        Raises the error of an earlier job.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or self._fits(num_bytes))
            self._raise()
            self._jobs.append((job, num_bytes))
            self._bytes += num_bytes
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="zoo-commits", daemon=True)
                self._thread.start()

    def take(self) -> list[T]:
        """Results since the last call, in order. Raises the error of a job."""
        with self._changed:
            self._raise()
            results, self._done = self._done, []
            return results

    def flush(self) -> list[T]:
        """Wait until every job has ended, then ``take``."""
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or not self._jobs)
        return self.take()

    def clear(self) -> None:
        """Drop the jobs that have not begun and wait for the running one; its result or error is dropped too."""
        with self._changed:
            self._drop_waiting()
            self._changed.wait_for(lambda: not self._jobs)
            self._done, self._error = [], None

    def _fits(self, num_bytes: int) -> bool:
        within = self._bytes + num_bytes <= self._limit_bytes and len(self._jobs) < self._limit_jobs
        return within or not self._jobs

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _drop_waiting(self) -> None:
        while len(self._jobs) > 1:
            self._bytes -= self._jobs.pop()[1]

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._jobs:
                    self._thread = None
                    return
                job = self._jobs[0][0]
            error: BaseException | None = None
            try:
                result = job()
            except BaseException as caught:  # raised by the next call, in the thread that trains
                error = caught
            with self._changed:
                if error is None:
                    self._done.append(result)
                else:
                    self._error = error
                    self._drop_waiting()
                self._bytes -= self._jobs.popleft()[1]
                del job
                self._changed.notify_all()
