"""Results for machines on stdout, progress for people on stderr, and an exit status that says how it went."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Command, done

LIST_KEYS = {"name", "dataset", "architecture", "num_models", "num_states", "num_epochs"}
PLAN_KEYS = {
    "zoo", "run", "num_models", "num_units", "num_steps", "num_flop", "seconds", "peak_bytes", "final_bytes",
    "num_objects", "dollars",
}  # fmt: skip
STATUS_KEYS = {
    "zoo", "run", "state", "reason", "request", "done", "total", "eta_seconds", "dollars", "last_commit", "problems",
}  # fmt: skip


def parsed(zoo: Command, *arguments: str | Path) -> Any:
    ended = done(zoo(*arguments, "--json"))
    assert ended.err == "", ended.err
    return json.loads(ended.out)


def test_list_is_a_list_of_objects_with_the_keys_of_the_contract(zoo: Command) -> None:
    output = parsed(zoo, "list")
    assert len(output) >= 29
    assert all(set(one) >= LIST_KEYS for one in output)


def test_plan_is_a_list_of_objects_with_the_keys_of_the_contract(zoo: Command) -> None:
    output = parsed(zoo, "plan", "all")
    assert len(output) >= 29
    assert all(set(one) >= PLAN_KEYS for one in output)


@pytest.mark.ray
class TestOfARun:
    def test_status_has_the_keys_of_the_contract(self, zoo: Command, quiet: Path) -> None:
        output = parsed(zoo, "status", "small", "--store", quiet)
        assert set(output) >= STATUS_KEYS
        assert (output["zoo"], output["state"], output["done"], output["total"]) == ("small", "finished", 224, 224)
        assert output["request"] == {"models": [0, 32], "epochs": 6}
        assert set(output["dollars"]) == {"committed", "wasted"}
        every = parsed(zoo, "status", "all", "--store", quiet)
        assert [one["zoo"] for one in every] == ["small", "small-vd"]

    def test_vectorize_verify_and_ls_speak_json(self, zoo: Command, quiet: Path) -> None:
        version = parsed(zoo, "vectorize", "small", "--store", quiet)
        assert (version["zoo"], version["version"], version["new"]) == ("small", 1, False)
        checks = parsed(zoo, "verify", "small-vd", "--store", quiet)["checks"]
        assert {check["outcome"] for check in checks} <= {"equal", "within tolerance"}
        assert {one["zoo"] for one in parsed(zoo, "store", "ls", "--store", quiet)} == {"small", "small-vd"}

    def test_a_run_prints_results_on_stdout_and_progress_on_stderr_without_bars(
        self, zoo: Command, quiet: Path, spec: Path
    ) -> None:
        ended = done(zoo("run", spec, "--models", "0:32", "--store", quiet))
        assert ended.out.splitlines() == [
            "small version 1: 32 of 2,560 models, 6 epochs (nothing new)",
            "small-vd version 1: 32 of 2,560 models, 4 epochs (nothing new)",
            "small: 8 checks, 8 equal",
            "small-vd: 8 checks, 8 equal",
        ]
        assert "small: models 0:32 of 2,560, epochs 0 to 6, run " in ended.err
        assert "224 of 224 model-epochs" in ended.err
        assert "\x1b" not in ended.err and "\r" not in ended.err and "━" not in ended.err

    def test_quiet_says_only_what_was_resolved(self, zoo: Command, quiet: Path, spec: Path) -> None:
        ended = done(zoo("train", spec, "--models", "0:32", "--store", quiet, "--quiet", "--no-metrics"))
        assert ended.out == ""
        assert len(ended.err.splitlines()) == 1
