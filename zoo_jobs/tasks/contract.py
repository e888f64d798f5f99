"""What the rest of the program has to know of a task. Pure.

Shape suffixes: P = models, C = classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

TaskName = str  # a key of registry.TASKS
SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Task:
    """One task.

    Attributes:
        description: one phrase for people.
        outputs: the word that stands for the number of outputs in a list of layers.
        splits: the splits of the data that are evaluated after an epoch.
        vectors: whether a network's input is a vector of coordinates, else it is an image.
        fields: fields of a spec that only this task has; all are required.
        refused: fields of a spec that this task does not have; they keep their default.
        initializers: the initializers that only this task has.
        fill_in: the JSON of a spec with the fields that follow from the others; ``left_out``: without them.
        check: raises ValueError where a spec asks for what the task does not have; the message begins with the field.
        check_network: raises ValueError where an initializer does not fit the network.
    """

    description: str
    outputs: str
    splits: tuple[SplitName, ...] = ("train", "val", "test")
    vectors: bool = False
    fields: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    initializers: tuple[str, ...] = ()
    fill_in: Callable[[dict[str, Any]], dict[str, Any]] = dict
    left_out: Callable[[dict[str, Any]], dict[str, Any]] = dict
    check: Callable[[Any], None] = lambda spec: None
    check_network: Callable[[Any, tuple[str, ...]], None] = lambda network, initializers: None
