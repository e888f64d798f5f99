"""`zoo benchmark` on the example that comes with the package."""

import json
from pathlib import Path
from typing import Any

import pytest

import zooforge
from tests.support.page_blocks import blocks
from zooforge.zoo_jobs.benchmark.methods.registry import METHODS
from zooforge.zoo_jobs.benchmark.protocols.registry import PROTOCOLS
from zooforge.zoo_jobs.cli import main

ZOO = f"{zooforge.example().store.url}/zoos/digits-example"
QUICK = ["--seeds", "2", "--methods", "linear-statistics", "--thresholds", "0,0.8"]


def run(*arguments: str) -> int:
    return main(["benchmark", ZOO, *arguments])


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run(*arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_equal_runs_write_equal_bytes_and_against_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        assert run("--protocol", "accuracy", *QUICK, "--out", str(tmp_path / name)) == 0
    written: list[dict[str, bytes]] = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two")
    ]
    assert written[0] == written[1]
    assert set(written[0]) == {f"benchmark-accuracy.{suffix}" for suffix in ("json", "md", "png")}
    assert b"| test_acc | 80% | linear-statistics |" in written[0]["benchmark-accuracy.md"]
    value = json.loads(written[0]["benchmark-accuracy.json"])
    assert [(row["threshold"], row["method"]) for row in value["rows"]] == [
        (0.0, "floor"), (0.0, "linear-statistics"), (0.8, "floor"), (0.8, "linear-statistics"),
    ]  # fmt: skip
    assert all(len(row["scores"]["tau"]["seeds"]) == 2 for row in value["rows"])
    capsys.readouterr()
    recorded = str(tmp_path / "one" / "benchmark-accuracy.json")
    assert run("--protocol", "accuracy", *QUICK, "--against", recorded) == 0
    shown = capsys.readouterr().out
    assert shown.count("equal\n") == 4 * 4 and "differs" not in shown
    assert run("--protocol", "accuracy", *QUICK, "--epochs", "3", "--against", recorded) == 0
    shown = capsys.readouterr().out
    assert "differs" in shown and "settings: recorded" in shown


def test_states_beyond_the_weight_threshold_are_left_out_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--protocol", "ggap", *QUICK, "--epochs", "1:5", "--weight-threshold", "0.9", "--json"]
    assert run(*arguments) == 0
    left_out = json.loads(capsys.readouterr().out)["excluded"]["a weight is beyond the threshold"]
    assert left_out == zooforge.example().weights(epochs="1:5", weight_threshold=0.9).left_out > 0


def test_hyperparameters_that_vary_are_predicted(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--protocol", "hyperparameters", "--seeds", "1", "--methods", "linear-statistics", "--json") == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
    assert {row["target"] for row in rows} == {"activation", "log10 learning_rate"}
    (best,) = (row for row in rows if (row["target"], row["method"]) == ("activation", "linear-statistics"))
    assert best["scores"]["accuracy"]["mean"] >= 0.5


def test_bad_input_is_one_line_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert "unknown protocol 'acuracy'; did you mean 'accuracy'?" in refused(capsys, "--protocol", "acuracy", *out)
    assert "--seeds: protocol reference does not take it" in refused(capsys, "--seeds", "3", *out)
    accuracy = ["--protocol", "accuracy", *out]
    assert "unknown method 'bosting'" in refused(capsys, *accuracy, "--methods", "bosting")
    assert "expected test accuracies from 0 to below 1" in refused(capsys, *accuracy, "--thresholds", "80")
    assert "--against" in refused(capsys, *accuracy, "--against", str(tmp_path / "none.json"))
    (tmp_path / "other.json").write_text('{"format": "zooforge.benchmark", "version": 1, "protocol": "ggap"}')
    assert "recorded by protocol ggap" in refused(capsys, *accuracy, "--against", str(tmp_path / "other.json"))
    assert not (tmp_path / "out").exists()


def test_thresholds_that_leave_too_few_models_are_bad_input_if_none_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--protocol", "accuracy", "--thresholds", "0.99"]
    assert "0 models are left, too few to split" in refused(capsys, *arguments)


def test_help_names_every_protocol_and_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--help"]) == 0
    text = "".join(capsys.readouterr().out.split())
    assert all(name in text for name in (*PROTOCOLS, *METHODS))


def test_networks_that_the_page_writes_are_graded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = (block.code for block in blocks(Path("docs/benchmarks.md")) if "save_file" in block.code)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    arguments = ["--protocol", "generate", "--activation", "tanh", "--samples", "made", "--seeds", "1", "--json"]
    assert run(*arguments) == 0
    (submitted,) = (row for row in json.loads(capsys.readouterr().out)["rows"] if row["method"] == "submitted")
    assert submitted["scores"]["accuracy"]["mean"] > 0.8
