"""A Ray that does not come up is said in one line, with the place of its logs."""

import importlib

import pytest

from zoo_jobs.errors import ZooError


def test_a_ray_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    ray_runner = importlib.import_module("zoo_jobs.ray_runner")

    def times_out(**options: object) -> None:
        raise Exception("The current node timed out during startup.\nTry again.")

    monkeypatch.setattr(ray_runner.ray, "init", times_out)
    monkeypatch.setenv("RAY_TMPDIR", "/scratch")
    with pytest.raises(ZooError) as refusal:
        ray_runner._start_local(1, 0, {})
    assert "/scratch/ray/session_latest/logs" in str(refusal.value)
    assert "\n" not in str(refusal.value)
