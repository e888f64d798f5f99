"""`zoo engines` lists the engines that run on this machine, and the one that `auto` picks."""

import json
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from zooforge.zoo_jobs.commands.engines import command
from zooforge.zoo_jobs.engines import choose
from zooforge.zoo_jobs.engines.calibration import calibration_program
from zooforge.zoo_jobs.engines.gpu_driver import report_on
from zooforge.zoo_jobs.engines.stacked import StackedEngine
from zooforge.zoo_jobs.errors import InputError


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, ["--seconds", "0.3", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_every_engine_runs_with_a_rate_or_has_a_reason() -> None:
    output: dict[str, Any] = json.loads(run("--json"))
    assert [engine["name"] for engine in output["engines"]] == ["lanes", "stacked", "sequential"]
    for engine in output["engines"]:
        if engine["runs"]:
            assert engine["samples_per_second"] > 0
            assert 0 < engine["peak_ratio"] < 1.2
            assert engine["where"]
        else:
            assert engine["reason"]
    assert output["auto"]["engine"] in {engine["name"] for engine in output["engines"] if engine["runs"]}
    assert output["auto"]["why"]
    assert torch.__version__ in output["gpu"]["words"]


def test_a_person_reads_a_table_and_three_lines() -> None:
    text = run()
    assert text.startswith("engine")
    for word in ("sequential", "samples/s", "peak ", "GPU ", "auto "):
        assert word in text


@pytest.mark.parametrize(
    ("driver", "cuda", "sees", "words"),
    [
        (None, None, False, "no NVIDIA driver; torch 2.13.0 is built without CUDA"),
        ("570.86.15", None, False, "install a CUDA build"),
        ("570.86.15", "13.0", False, "too old: torch 2.13.0 is built for CUDA 13.0, which needs driver 580.65.06"),
        ("580.65.06", "13.0", True, "which fits this driver"),
        ("525.60.13", "12.8", True, "which fits this driver"),
        ("580.95", "13.0", False, "sees no device"),
    ],
)
def test_driver_and_cuda_are_judged_in_one_line(driver: str | None, cuda: str | None, sees: bool, words: str) -> None:
    report = report_on(driver, "2.13.0", cuda, sees).words
    assert words in report
    assert "\n" not in report


def test_auto_never_takes_stacked_on_a_cpu_even_with_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CUDA in torch, `stacked` would train slowly on the CPU, without a message."""
    monkeypatch.setattr(choose, "has_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    choice = choose.choose("auto", [calibration_program()])
    assert choice.engine.name != "stacked"
    assert choice.why.startswith("not stacked: torch")
    assert choose.choose("stacked", [calibration_program()]).why == "requested"


def test_auto_takes_stacked_where_torch_has_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "has_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose.choose("auto", [calibration_program()]).engine.name == "stacked"


def test_an_unknown_engine_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="'stacked'"):
        choose.choose("stakced", [])
    assert StackedEngine.name == "stacked"
