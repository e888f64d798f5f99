"""Runs that the supervisor submits again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.controls import set_control
from tests.support.submitted_jobs import RUN, ZOO, submit
from zooforge.storage.runs.claims import read_claims
from zooforge.storage.runs.run_files import Control
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.zoo_jobs.unattended.listing import begun, pending


def test_an_unfinished_run_without_a_driver_is_pending_for_its_own_release_only(
    store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends.append(75)
    submit(store, monkeypatch, "j1")
    (row,) = pending(store, "zoos/zooforge")
    assert (row["zoo"], row["run"], row["job"], row["request"]) == (ZOO, RUN, "j1", {"zoo": ZOO, "epochs": 2})
    assert row["parts"] == 0
    assert begun(store, "zoos/zooforge") == ["j1"]
    assert begun(store, "other/zooforge") == []
    assert pending(store, "other/zooforge") == []
    set_control(store, RUN, Control("stopped"))
    assert pending(store, "zoos/zooforge") == []


def test_a_run_with_a_live_driver_is_not_pending(
    store: ObjectStore, ends: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def look() -> int:
        while not any(name.startswith("driver-") for name in read_claims(store, RUN)):
            pass  # the claim is written by a thread of its own
        seen.extend(pending(store, "zoos/zooforge"))
        return 75

    ends.append(look)
    submit(store, monkeypatch, "j1")
    assert seen == []
