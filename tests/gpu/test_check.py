"""`make check-gpu` runs on a machine with only numpy and torch, and reports how each step ended."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu import check
from tests.gpu.steps import STEPS
from tests.support.paths import ROOT
from zooforge.zoo_jobs.planning.machines import Rate
from zooforge.zoo_jobs.spec.yaml_values import yaml_values

ABSENT = ("pydantic", "ray", "boto3", "botocore", "obstore", "pyarrow", "click", "yaml", "pytest", "hypothesis")
BLOCK = f"""
import sys
from importlib.machinery import PathFinder

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {ABSENT!r} else super().find_spec(name, path, target)

sys.meta_path[:] = [Bare if finder is PathFinder else finder for finder in sys.meta_path]
"""


def test_every_step_passes_on_a_cpu_with_numpy_and_torch_alone(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    environment = os.environ | {"DEVICE": "cpu", "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    blocked = subprocess.run([sys.executable, "-c", "import pydantic"], env=environment, capture_output=True, text=True)
    assert "No module named 'pydantic'" in blocked.stderr
    result = tmp_path / "check.json"
    command = [sys.executable, "-u", "-m", "tests.gpu.check", "--seconds", "36000", "--json", str(result)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[:4] for line in lines[: len(STEPS)]] == [
        ["STEP", str(number), name, "PASS"] for number, name in enumerate(STEPS, start=1)
    ]
    assert lines[len(STEPS) + 1 :] == lines[: len(STEPS)]  # the table is repeated at the end
    content = json.loads(result.read_text())
    assert (content["device"], content["size"]) == ("cpu", "tiny")
    rows = content["steps"][-1]["numbers"]["rows"]
    assert any("engine: stacked, architecture: cnn-s" in row for row in rows)
    side_by_side = next(step["numbers"] for step in content["steps"] if step["name"] == "resnet_side_by_side")
    one, two = (f"float32 contiguous x{count}" for count in (1, 2))
    assert side_by_side[f"{one} ratio_to_one"] == 1 and side_by_side[f"{two} ratio_to_one"] > 0
    assert side_by_side[f"{two} GiB_in_memory"] > 0
    shared = [
        rate for rate in (Rate.model_validate(yaml_values(row, "row")) for row in rows) if rate.workers_per_gpu == 2
    ]
    assert [rate.architecture for rate in shared] == ["resnet18"]
    together = side_by_side[f"{two} train_samples_per_second"]
    assert shared[0].train_samples_per_second == pytest.approx(together / 2, abs=0.1)


@pytest.mark.parametrize(("script", "outcome"), [("sleep 600", "TIMEOUT"), ("exit 3", "FAIL"), ("true", "FAIL")])
def test_a_step_that_hangs_fails_or_reports_nothing_has_not_passed(
    script: str, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho the last words\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(check.sys, "executable", str(python))
    result = check.run_step(3, "numbers", 2.0, dict(os.environ), tmp_path)
    assert (result.outcome, result.numbers["why"]) == (outcome, "the last words")
    assert str(result).startswith(f"STEP 3 numbers {outcome} ")
    assert check.run_step(4, "cases", 0.5, {}, tmp_path).numbers == {"why": "no time left"}


def test_every_step_has_a_limit_and_the_main_figure_comes_first() -> None:
    assert list(check.LIMITS) == list(STEPS)
    assert list(check.LIMITS)[:2] == ["facts", "replays"]
