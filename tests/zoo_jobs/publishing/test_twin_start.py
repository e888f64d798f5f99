"""Twins begin at their parents' accuracy; a twin that does not is named."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.support import acceptance_specs
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.zoo_jobs.catalogue.entries import load_file
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.engines.contract import StateArrays
from zooforge.zoo_jobs.publishing.publish import publish
from zooforge.zoo_jobs.publishing.twin_start import starts_apart
from zooforge.zoo_jobs.running.inputs import Run
from zooforge.zoo_jobs.spec.twins import TwinSpec, twins_of

QUIET = ("--ray", "none", "--engine", "sequential", "--no-metrics", "--quiet")


def grown(path: Path, store: str) -> TwinSpec:
    """Three models, and their twins from epoch 1."""
    asked = (str(path), "--models", "0:3", "--epochs", "1", "--store", store, *QUIET)
    assert main(["train", *asked]) == 0
    assert main(["sparsify", *asked]) == 0
    return twins_of(load_file(path), source_epoch=1)


def test_a_twin_that_does_not_begin_at_its_parents_accuracy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = acceptance_specs.write(tmp_path, sparsify={"method": "variational-dropout", "num_epochs": 1})
    store = str(tmp_path / "store")
    twins = grown(path, store)
    publish(open_store(store), twins)
    assert starts_apart(store, twins) is None  # the parents are not published
    publish(open_store(store), twins.parent)
    assert starts_apart(store, twins) is None
    assert starts_apart(store, twins.parent) is None

    first_state = Run.first_state

    def damaged(self: Run, models: Sequence[int], store: ObjectStore) -> StateArrays:
        state = first_state(self, models, store)
        if self.stage == "sparsify":
            state["weights"][list(models).index(2)] *= np.float32(-1)
        return state

    monkeypatch.setattr(Run, "first_state", damaged)
    other = str(tmp_path / "other")
    twins = grown(path, other)
    for zoo in (twins.parent, twins):
        publish(open_store(other), zoo)
    said = starts_apart(other, twins)
    assert said is not None
    assert "1 of 3 twins do not begin at their parent's test accuracy; the furthest is model 2, " in said
