"""Work on a thread of its own, beside what its caller does."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def beside(work: Callable[[], T]) -> Callable[[], T]:
    """Start ``work``; what waits for its result, or raises its error.

    Not a pool's thread: the interpreter joins those when it ends, and a process that has to leave does not wait.
    """
    found: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:  # passed on to the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, name="zoo-beside", daemon=True)
    thread.start()

    def result() -> T:
        thread.join()
        if errors:
            raise errors[0]
        return found[0]

    return result
