"""A job that a cluster starts for a small request."""

from __future__ import annotations

import pytest

from zooforge.storage.runs.run_files import Control, read_control
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.unattended.__main__ import main

ZOO = "mnist5k-cnn-s"
RUN = entries.load(ZOO).run_id


def submit(store: ObjectStore, monkeypatch: pytest.MonkeyPatch, job: str) -> int:
    """Start ``job`` with a request for two epochs. Returns the exit status."""
    monkeypatch.setenv("ZOO_JOB", job)
    monkeypatch.setenv("ZOO_ORIGIN", "zoos/zooforge")
    monkeypatch.setenv("ZOO_REQUEST", '{"zoo": "mnist5k-cnn-s", "epochs": 2}')
    return main(["run", ZOO, "--store", store.url])


def wanted(store: ObjectStore) -> Control:
    """The control of the run, which must exist."""
    control = read_control(store, RUN)
    assert control is not None
    return control
