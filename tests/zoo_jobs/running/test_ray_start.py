"""What goes wrong with Ray is said in one line: one that does not come up, a worker that is lost."""

import importlib

import pytest

from zooforge.zoo_jobs.errors import ZooError


def test_a_ray_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    ray_runner = importlib.import_module("zooforge.zoo_jobs.running.ray_pool")

    def times_out(**options: object) -> None:
        raise Exception("The current node timed out during startup.\nTry again.")

    monkeypatch.setattr(ray_runner.ray, "init", times_out)
    monkeypatch.setenv("RAY_TMPDIR", "/scratch")
    with pytest.raises(ZooError) as refusal:
        ray_runner._start_local(1, 0, {})
    assert "/scratch/ray/session_latest/logs" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("said", "short"),
    [
        (
            "The actor died unexpectedly before finishing this task.\n\tclass_name: _Worker\n\tpid: 9679\n"
            "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: "
            "Worker unexpectedly exits with a connection error code 2. End of file. Some common causes include: ...",
            "its worker process has died (SYSTEM_ERROR)",
        ),
        (
            "The actor died because its node has died.\nThe actor is dead because its node has died. Node Id: 12ab",
            "its node has died",
        ),
        ("The worker died unexpectedly while executing this task. Check python-core-worker-*.log files.",
         "The worker died unexpectedly while executing this task"),
    ],
)  # fmt: skip
def test_what_ray_says_of_a_lost_worker_is_one_line(said: str, short: str) -> None:
    assert importlib.import_module("zooforge.zoo_jobs.running.ray_pool").in_short(said) == short
