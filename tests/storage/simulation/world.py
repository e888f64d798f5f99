"""Actors that use one store. One actor runs at a time; at each request a schedule chooses who goes on and what fails.

An actor is a thread that calls the real protocol code with a ``SimStore``. It runs until its next request, where the
schedule may hand over to another one. So a run is a function of its schedule, and needs no sleep and no luck.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeVar

from zooforge.storage.errors import ObjectNotFound, PreconditionFailed, StoreUnreachable
from zooforge.storage.stores.protocol import ByteRange, Data, Stat, Traffic

T = TypeVar("T")

START_SECONDS = 1_767_225_600.0
REQUEST_SECONDS = 0.25
LANDING_SECONDS = 480.0  # docs/format.md: a request has ended by then, counted from the decision to send it
MAX_STEPS = 20_000


class Crashed(BaseException):
    """The process of an actor was killed."""


class Violation(AssertionError):
    """The protocol broke one of its promises."""


class Fault(Enum):
    """A fault of one request."""

    NONE = 0
    CRASH_BEFORE = 1
    CRASH_AFTER = 2
    CRASH_UNDER_WAY = 3  # the request arrives at the store later
    LOST_REPLY = 4  # the client sends it again
    DUPLICATE = 5  # the client sends it again, and the first one arrives later
    UNREACHABLE = 6
    UNREACHABLE_AFTER = 7
    UNREACHABLE_UNDER_WAY = 8


READ_FAULTS = (Fault.CRASH_BEFORE, Fault.UNREACHABLE)
WRITE_FAULTS = tuple(fault for fault in Fault if fault is not Fault.NONE)


@dataclass(eq=False)
class Actor:
    """A process. It pauses at a request for at most ``max_pause_seconds`` and may be killed at any time.

    After a crash it starts again from the beginning, in a new process, at most ``num_lives`` times in all.
    """

    name: str
    work: Callable[["Actor"], None]
    max_pause_seconds: float = float("inf")
    num_lives: int = 3
    skew_seconds: float = 0.0
    wake: float | None = None  # asleep until then
    began: float = 0.0  # when it reached its current request
    done: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    attempt: str = ""  # of an actor that is a driver


class Schedule(Protocol):
    """Chooses who goes on and what happens to the request of ``actor``; ``actor`` is None if nobody is at a request."""

    def choose(self, world: "World", actor: Actor | None, verb: str, key: str) -> tuple[Actor, Fault]: ...


class World:
    """The objects, the clock and the actors of one run."""

    answers_404_to_if_match = False  # as AWS, where a store does not translate it

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.now = START_SECONDS
        self.objects: dict[str, tuple[bytes, str, float]] = {}
        self.actors: list[Actor] = []
        self.under_way: list[tuple[float, Callable[[], object]]] = []
        self.trace: list[str] = []
        self.watch: Callable[[Actor, str, str, bytes | None], None] = lambda actor, verb, key, data: None
        self._tags = itertools.count()
        self._main = threading.Lock()
        self._error: BaseException | None = None
        self._steps = 0
        self.current: Actor | None = None

    def run(self) -> None:
        """Run all actors to their ends. Raises the error of an actor, with the trace of the schedule."""
        self._main.acquire()
        for actor in self.actors:
            actor.lock.acquire()
        threads = [threading.Thread(target=self._live, args=(actor,), daemon=True) for actor in self.actors]
        for thread in threads:
            thread.start()
        self._hand_over(None)
        self._main.acquire()
        for actor in self.actors:  # after an error, end the remaining threads
            if not actor.done:
                actor.lock.release()
        for thread in threads:
            thread.join()
        while self.under_way:
            self._land(0)
        if self._error is not None:
            raise self._error

    def _live(self, actor: Actor) -> None:
        actor.lock.acquire()
        while self._error is None:
            try:
                actor.work(actor)
                break
            except Crashed:
                actor.num_lives -= 1
                if actor.num_lives < 1 or self._error is not None:
                    break
                self.note(actor, "starts again", "")
                try:
                    self.sleep(actor, 20.0)
                except Crashed:
                    break
            except BaseException as error:  # raised in the thread that waits
                self._error = self._error or error
                break
        actor.done = True
        self._hand_over(None)

    def _hand_over(self, me: Actor | None) -> Fault:
        """Let the schedule choose who goes on. Returns when it chooses ``me`` again."""
        return self._turn(me, "", "")

    def _turn(self, me: Actor | None, verb: str, key: str) -> Fault:
        self._steps += 1
        if self._error is None and self._steps > MAX_STEPS:
            self._error = Violation("the actors do not come to an end")
        if self._error is not None or all(actor.done for actor in self.actors):
            with contextlib.suppress(RuntimeError):  # another thread did it
                self._main.release()
            if me is not None:
                raise Crashed
            return Fault.NONE
        at_request = me if verb else None
        other, fault = self.schedule.choose(self, at_request, verb, key)
        if other.wake is not None:
            self._pass_time(other.wake)
            other.wake = None
        if other is not me:
            self.current = other
            other.lock.release()
            if me is None:
                return Fault.NONE
            me.lock.acquire()
            if self._error is not None:
                raise Crashed
        return fault

    def options(self) -> list[Actor]:
        """Actors that can go on. If all sleep, the clock advances until one wakes."""
        awake = [actor for actor in self.actors if not actor.done and actor.wake is None]
        latest = min((actor.began + actor.max_pause_seconds for actor in awake), default=float("inf"))
        asleep = [actor for actor in self.actors if not actor.done and actor.wake is not None]
        able = [actor for actor in asleep if actor.wake is not None and actor.wake <= latest]
        return awake + sorted(able, key=lambda actor: actor.wake or 0.0)

    def sleep(self, actor: Actor, seconds: float) -> None:
        actor.wake = self.now + seconds
        self._turn(actor, "", "")

    def note(self, actor: Actor, verb: str, what: str) -> None:
        self.trace.append(f"{self.now - START_SECONDS:12.2f} {actor.name:<10} {verb} {what}")

    def request(self, actor: Actor, verb: str, key: str, effect: Callable[[], T], traffic: Traffic) -> T:
        """One request of an actor."""
        actor.began = self.now
        fault = self._turn(actor, verb, key)
        self._pass_time(self.now + REQUEST_SECONDS)
        self.note(actor, verb, key if fault is Fault.NONE else f"{key} ({fault.name})")
        if fault in (Fault.CRASH_UNDER_WAY, Fault.DUPLICATE, Fault.UNREACHABLE_UNDER_WAY):
            self.under_way.append((actor.began + LANDING_SECONDS, effect))
        if fault in (Fault.LOST_REPLY, Fault.DUPLICATE):
            if fault is Fault.LOST_REPLY:
                effect()
            traffic.add(retries=1)
            actor.began = self.now
            again = self._turn(actor, f"{verb} again", key)
            if again in (Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.CRASH_UNDER_WAY):
                raise Crashed
        elif fault in (Fault.CRASH_AFTER, Fault.UNREACHABLE_AFTER):
            effect()
        if fault in (Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.CRASH_UNDER_WAY):
            raise Crashed
        if fault in (Fault.UNREACHABLE, Fault.UNREACHABLE_AFTER, Fault.UNREACHABLE_UNDER_WAY):
            raise StoreUnreachable(f"{verb} {key}")
        return effect()

    def land(self, index: int) -> None:
        """Let a delayed request arrive whose client no longer waits for it."""
        self._land(index)

    def _land(self, index: int) -> None:
        _, effect = self.under_way.pop(index)
        with contextlib.suppress(PreconditionFailed, ObjectNotFound):
            effect()

    def _pass_time(self, until: float) -> None:
        for index in reversed(range(len(self.under_way))):
            if self.under_way[index][0] < until:
                self._land(index)
        self.now = max(self.now, until)

    def tag(self, data: bytes) -> str:
        """The tag that most S3 servers use: equal contents have equal tags."""
        return str(hash(data))


class SimStore:
    """The store as one process sees it."""

    root = None
    clock_ahead_seconds = 0.0

    def __init__(self, world: World, actor: Actor, prefix: str = "") -> None:
        self._world, self._actor, self._prefix = world, actor, prefix
        self.url = f"sim://{prefix}"
        self.traffic = Traffic()

    def get(self, key: str, byte_range: ByteRange | None = None) -> tuple[bytes, str]:
        def effect() -> tuple[bytes, str]:
            entry = self._world.objects.get(self._prefix + key)
            if entry is None:
                raise ObjectNotFound(key)
            data = entry[0] if byte_range is None else entry[0][byte_range[0] : byte_range[1]]
            return data, entry[1]

        return self._request("get", key, effect)

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        content = bytes(data)

        def effect() -> str:
            world, full = self._world, self._prefix + key
            entry = world.objects.get(full)
            if if_match is not None and entry is None and world.answers_404_to_if_match:
                raise ObjectNotFound(key)
            if (if_absent and entry is not None) or (if_match is not None and (entry is None or entry[1] != if_match)):
                raise PreconditionFailed(key)
            world.watch(self._actor, "put", full, content)
            tag = world.tag(content)
            world.objects[full] = (content, tag, float(int(world.now)))
            return tag

        return self._request("create" if if_absent else "swap" if if_match else "put", key, effect)

    def stat(self, key: str) -> Stat | None:
        def effect() -> Stat | None:
            entry = self._world.objects.get(self._prefix + key)
            return None if entry is None else Stat(key, len(entry[0]), entry[1], entry[2])

        return self._request("stat", key, effect)

    def list(self, prefix: str) -> Iterator[Stat]:
        def effect() -> list[Stat]:
            full, start = self._prefix + prefix, len(self._prefix)
            items = [(key, value) for key, value in self._world.objects.items() if key.startswith(full)]
            return [Stat(key[start:], len(data), tag, modified) for key, (data, tag, modified) in sorted(items)]

        return iter(self._request("list", prefix, effect))

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        def effect() -> None:  # without the condition, as S3
            self._world.watch(self._actor, "delete", self._prefix + key, None)
            self._world.objects.pop(self._prefix + key, None)

        self._request("delete", key, effect)

    def _request(self, verb: str, key: str, effect: Callable[[], T]) -> T:
        self.traffic.add()
        return self._world.request(self._actor, verb, self._prefix + key, effect, self.traffic)


class QuietStore(SimStore):
    """The store for an observer, whose requests are not scheduled."""

    def __init__(self, world: World, prefix: str = "") -> None:
        super().__init__(world, Actor("observer", lambda actor: None), prefix)

    def _request(self, verb: str, key: str, effect: Callable[[], Any]) -> Any:
        return effect()
