"""Run work in a background thread while the caller continues."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def run_in_thread(work: Callable[[], T]) -> Callable[[], T]:
    """Run ``work`` in a background thread. Returns a function that waits for the result and re-raises any exception.

    The thread is a daemon and not of a pool: the interpreter joins the threads of pools when it ends, and a process
    that has to leave at once does not wait.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # passed on to the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, name="zoo-background", daemon=True)
    thread.start()

    def result() -> T:
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    return result
