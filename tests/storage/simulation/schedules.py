"""Schedules: read from random bytes, or enumerated with a limited number of handovers and faults."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .world import READ_FAULTS, WRITE_FAULTS, Actor, Fault, World


@dataclass
class DrawnSchedule:
    """One byte per request: most let the actor run on, some hand over to another actor, some make the request fail.

    After the last byte every actor runs on until it sleeps or ends.
    """

    data: bytes
    max_faults: int = 4
    position: int = 0
    num_faults: int = 0

    def choose(self, world: World, actor: Actor | None, verb: str, key: str) -> tuple[Actor, Fault]:
        value = self.data[self.position] if self.position < len(self.data) else 0
        self.position += 1
        if world.under_way and value % 8 == 7:
            world.land(value // 8 % len(world.under_way))
        options = world.options()
        if actor is None:
            awake = [option for option in options if option.wake is None]
            chosen = options if value >= 224 or not awake else awake
            return chosen[value % len(chosen)], Fault.NONE
        if value < 176:
            return actor, Fault.NONE
        if value < 246 or self.num_faults >= self.max_faults:
            return options[value % len(options)], Fault.NONE
        faults = READ_FAULTS if verb in ("get", "stat", "list") else WRITE_FAULTS
        self.num_faults += 1
        return actor, faults[(value * 7 + self.position) % len(faults)]


@dataclass
class ListedSchedule:
    """Follows a list of choices, where 0 means to run on, and records the number of options at each point."""

    choices: list[int]
    faults: Callable[[Actor, str, str], tuple[Fault, ...]]
    matters: Callable[[str], bool] = lambda key: True
    num_options: list[int] = field(default_factory=list)

    def choose(self, world: World, actor: Actor | None, verb: str, key: str) -> tuple[Actor, Fault]:
        options = world.options()
        if actor is not None and not self.matters(key):
            return actor, Fault.NONE
        if actor is not None:
            options = [actor, *(option for option in options if option is not actor)]
        faults = () if actor is None else self.faults(actor, verb, key)
        point = len(self.num_options)
        choice = self.choices[point] if point < len(self.choices) else 0
        self.num_options.append(len(options) + len(faults))
        if choice < len(options):
            return options[choice], Fault.NONE
        assert actor is not None
        return actor, faults[choice - len(options)]


def enumerate_schedules(
    run: Callable[[list[int]], list[int]], depth: int, limit: int = 10**9
) -> Iterator[tuple[list[int], list[int]]]:
    """Run every schedule with at most ``depth`` choices other than 0. Yields the numbers of options of each schedule.

    Args:
        run: runs a schedule and returns how many options there were at each point.
    """
    stack: list[list[int]] = [[]]
    while stack and limit:
        choices = stack.pop()
        num_options = run(choices)
        limit -= 1
        yield choices, num_options
        if sum(choice != 0 for choice in choices) < depth:
            for point in range(len(num_options) - 1, len(choices) - 1, -1):
                for choice in range(num_options[point] - 1, 0, -1):
                    stack.append([*choices, *([0] * (point - len(choices))), choice])
