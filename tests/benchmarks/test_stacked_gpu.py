"""The benchmark for a GPU also runs on a CPU, and divides samples by the time that they took."""

import runpy
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.paths import ROOT

SCRIPT = ROOT / "benchmarks" / "stacked_gpu.py"


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_a_rate_counts_the_samples_of_the_parts_that_were_timed(benchmark: dict[str, Any]) -> None:
    untrained = SimpleNamespace(samples=0, train_seconds=5.0)
    trained = [SimpleNamespace(samples=100, train_seconds=seconds) for seconds in (1.0, 3.0)]
    assert benchmark["training_rate"]([untrained, *trained]) == 50.0


def test_one_epoch_is_enough(
    benchmark: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "--device cpu --models 2 --images 40 --tests 10 --epochs 1"
    monkeypatch.setattr("sys.argv", [str(SCRIPT), *small.split()])
    benchmark["main"]()
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("share of the peak") for line in lines)
