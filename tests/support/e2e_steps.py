"""Runs a step of tests/e2e on a fake cluster, without a store, without waiting and without comparing manifests."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest

from tests.e2e import surroundings
from tests.e2e.quiet import QuietRuns

Step = Callable[[QuietRuns], None]


def play(
    step: Step, fakes: Mapping[str, Any], modules: tuple[ModuleType, ...], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Run ``step`` with ``fakes`` in place of the names that ``modules`` import. Returns what it skipped.

    A condition that is waited for is looked at three times. If it does not come true, SystemExit names it.
    """

    @contextlib.contextmanager
    def store() -> Iterator[dict[str, str]]:
        yield {}

    def wait(seconds: float, what: str, condition: Callable[[], Any]) -> Any:
        for _ in range(3):
            if value := condition():
                return value
        raise SystemExit(f"FAIL  {what}")

    for name, fake in {"store": store, "wait": wait, "finished": lambda: None, **fakes}.items():
        for module in modules:
            monkeypatch.setattr(module, name, fake, raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(QuietRuns, "same", lambda self, request: None)
    monkeypatch.setattr(surroundings, "skipped", [])
    with QuietRuns({}) as quiet:
        step(quiet)
    return surroundings.skipped
