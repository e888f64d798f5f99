"""A store, and an end for each attempt in place of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.zoo_jobs import cli


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Statuses with which `zoo run` ends, one per attempt, or functions that return one."""
    waiting: list[Any] = []

    def zoo_run(arguments: list[str]) -> int:
        assert arguments[0] == "run"
        assert "--unattended" in arguments
        end = waiting.pop(0)
        return int(end() if callable(end) else end)

    monkeypatch.setattr(cli, "main", zoo_run)
    return waiting
