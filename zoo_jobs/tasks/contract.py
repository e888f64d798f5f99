"""The description of a task that the rest of the program uses. Pure.

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
        vectors: whether the input of a network is a vector of coordinates. If not, it is an image.
        fields: fields of a spec that only this task has. All of them are required.
        refused: fields of a spec that this task does not have. They must keep their default.
        initializers: the initializers that only this task has.
        fill_in: takes the JSON of a spec and adds the fields that follow from other fields.
        left_out: takes the JSON of a spec and removes the fields that ``fill_in`` adds.
        check: raises ValueError if a spec uses something that the task does not support; the message begins with the
            name of the field.
        check_network: raises ValueError if an initializer does not fit the network.
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
