"""`make demo` shows a newcomer a zoo that learns, and whose models differ."""

from pathlib import Path

import numpy as np
import pytest

import zooforge
from tests.support.paths import ROOT
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.spec.grid import rows
from zooforge.zoo_jobs.spec.twins import TwinSpec, twins_of

SPEC = ROOT / "requirements" / "demo.yaml"


def test_the_demo_runs_and_verifies_the_zoo_of_its_spec() -> None:
    spec = entries.resolve(str(SPEC))
    assert not isinstance(spec, TwinSpec)
    script = (ROOT / "requirements" / "demo").read_text()
    assert f"ZOO={spec.name}\n" in script and "\nzoo run requirements/demo.yaml\n" in script
    assert '\nzoo store verify "$ZOO-vd"\n' in script
    assert twins_of(spec).name == f"{spec.name}-vd"
    assert f"train {len(rows(spec))} models for {spec.num_epochs} epochs" in script
    assert len({(row.activation, row.initializer, row.dropout_ratio, row.learning_rate) for row in rows(spec)}) == 64


@pytest.mark.slow
def test_most_models_of_the_demo_learn_and_some_do_not(tmp_path: Path) -> None:
    options = ["--no-twins", "--ray", "none", "--no-metrics", "--store", str(tmp_path)]
    assert main(["run", str(SPEC), *options]) == 0
    accuracy = zooforge.open_zoo(tmp_path / "zoos" / "mnist5k-demo").labels(columns=["epoch", "test_acc"])
    last = accuracy["test_acc"].to_numpy()[accuracy["epoch"].to_numpy() == 6]
    assert np.median(last) > 0.8 and last.max() > 0.9 and last.min() < 0.2
