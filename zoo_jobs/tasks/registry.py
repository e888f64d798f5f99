"""Registry of tasks. Pure."""

from . import classification, image_regression
from .contract import Task, TaskName

TASKS: dict[TaskName, Task] = {"classification": classification.ROW, "image_regression": image_regression.ROW}
DEFAULT: TaskName = "classification"


def only_of(field: str) -> TaskName | None:
    """The name of the only task that has this field of a spec; None if all tasks have it."""
    return next((name for name, task in TASKS.items() if field in task.fields), None)
