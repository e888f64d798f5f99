"""A fuzzed reader, its inputs, and the errors that it may raise."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.fuzz.mutate import mutated
from zooforge.cluster.errors import ClusterError
from zooforge.storage.errors import StorageError
from zooforge.zoo_jobs.errors import ZooError

OURS = (StorageError, ZooError, ClusterError)
"""Errors with one line and an exit status."""


@dataclass(frozen=True)
class Target:
    """A reader of foreign bytes.

    Attributes:
        seeds: valid inputs; changed copies of them are the test inputs.
        read: may return a value or raise one of ``errors``; any other exception is a finding.
        hostile: inputs that are made to cost memory or time.
        make: draws an input from a grammar; used for half of the inputs.
    """

    seeds: list[bytes]
    read: Callable[[bytes], Any]
    errors: tuple[type[Exception], ...] = OURS
    hostile: tuple[bytes, ...] = ()
    make: Callable[[Random], bytes] | None = None

    def draw(self, random: Random) -> bytes:
        """One input."""
        if self.make is not None and random.random() < 0.5:
            return self.make(random)
        return mutated([*self.seeds, *(data for data in self.hostile if len(data) < 10_000)], random)
