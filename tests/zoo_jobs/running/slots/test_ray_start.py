"""Failures of Ray give one-line messages: Ray does not start, a worker is lost."""

import contextlib
import importlib
import pwd
import signal
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest

from zooforge.zoo_jobs.data.sources import default_cache
from zooforge.zoo_jobs.engines.device_errors import DeviceBroken
from zooforge.zoo_jobs.errors import InputError, Interrupted, ZooError
from zooforge.zoo_jobs.running.slots.memory_use import GiB, MemoryUse, MemoryWatch
from zooforge.zoo_jobs.running.slots.ray_environment import token_file


def test_a_ray_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    ray_cluster = importlib.import_module("zooforge.zoo_jobs.running.slots.ray_cluster")

    def times_out(**options: object) -> None:
        raise Exception("The current node timed out during startup.\nTry again.")

    monkeypatch.setattr(ray_cluster.ray, "init", times_out)
    monkeypatch.setenv("RAY_TMPDIR", "/scratch")
    with pytest.raises(ZooError) as refusal:
        ray_cluster._start_local(1, 0, {})
    assert "/scratch/ray/session_latest/logs" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_temporary_folder_with_a_path_too_long_for_sockets_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ray_cluster = importlib.import_module("zooforge.zoo_jobs.running.slots.ray_cluster")
    calls: list[int] = []

    def refuses(**options: object) -> None:
        calls.append(1)
        raise OSError("validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes: /scratch/...")

    monkeypatch.setattr(ray_cluster.ray, "init", refuses)
    with pytest.raises(InputError, match="set RAY_TMPDIR to a short one"):
        ray_cluster._start_local(1, 0, {})
    assert len(calls) == 1


def test_a_token_that_cannot_be_kept_is_one_line_with_the_variable_that_helps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="set XDG_STATE_HOME to a folder that may be written"):
        token_file()


def test_a_user_without_a_home_is_told_which_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_entry(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "ZOO_CACHE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="set XDG_STATE_HOME"):
        token_file()
    with pytest.raises(InputError, match="set ZOO_CACHE"):
        default_cache()


@pytest.mark.parametrize(
    ("said", "short"),
    [
        (
            "The actor died unexpectedly before finishing this task.\n\tclass_name: RayWorker\n\tpid: 9679\n"
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
def test_rays_message_about_a_lost_worker_becomes_one_line(said: str, short: str) -> None:
    assert importlib.import_module("zooforge.zoo_jobs.running.slots.ray_pool").loss_reason(said) == short


def test_a_worker_that_ray_killed_for_memory_is_recognised_and_the_numbers_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray_pool = importlib.import_module("zooforge.zoo_jobs.running.slots.ray_pool")
    text = (
        "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID: c3b3) "
        "was 7.19GB used / 23.54GB limit (0.305620)\nOOM kill reason: Memory usage exceeded threshold\nand a page more"
    )

    def killed(call: object) -> None:
        raise ray_pool.ray.exceptions.OutOfMemoryError(text)

    monkeypatch.setattr(ray_pool.ray, "get", killed)
    pool = ray_pool.RayPool.__new__(ray_pool.RayPool)
    pool._calls = {"call": (3, "actor")}
    done = pool._done("call")
    assert (done.slot, done.lost, done.out_of_memory) == (3, True, True)
    assert str(done.error) == "Ray killed it at 7.19GB used / 23.54GB limit of its node"


def lost_worker_pool(monkeypatch: pytest.MonkeyPatch, now: MemoryUse | None, **error: object) -> tuple[Any, list[int]]:
    """A pool whose worker of slot 3 was last seen at 7.5 of 8 GiB, and is dead; ``now`` is the memory of its node."""
    ray_pool = importlib.import_module("zooforge.zoo_jobs.running.slots.ray_pool")

    def lost(call: object) -> None:
        raise ray_pool.ray.exceptions.RayActorError(**error)

    pool, replaced = ray_pool.RayPool.__new__(ray_pool.RayPool), []
    monkeypatch.setattr(ray_pool.ray, "get", lost)
    monkeypatch.setattr(ray_pool, "memory_of_node", lambda node: now)
    monkeypatch.setattr(pool, "replace", replaced.append)
    pool._calls, pool._actors = {"call": (3, "actor")}, {3: "actor"}
    pool._memory = MemoryWatch()
    pool._memory.note(3, "node", MemoryUse(int(7.5 * GiB), 8 * GiB, 0))
    return pool, replaced


@pytest.mark.parametrize("kills", [0, 1])
def test_a_worker_that_the_kernel_killed_is_out_of_memory_and_another_lost_one_is_not(
    kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, replaced = lost_worker_pool(monkeypatch, MemoryUse(GiB, 8 * GiB, kills))
    done = pool._done("call")
    assert (done.lost, done.out_of_memory) == (True, bool(kills))
    assert replaced == ([] if kills else [3])  # the driver replaces the worker after it has halved the chunk
    assert ("exit 137" in str(done.error)) == bool(kills)


@pytest.mark.parametrize("preempted", [False, True])
def test_a_node_that_was_taken_back_is_no_lack_of_memory(preempted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, replaced = lost_worker_pool(monkeypatch, None, preempted=preempted)
    assert pool._done("call").out_of_memory is not preempted
    assert replaced == ([3] if preempted else [])


def test_a_worker_sees_that_its_node_is_draining(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of the private API are suppressed, so only this test notices a name that the installed Ray lacks."""
    state = importlib.import_module("ray._private.state")
    accessor = create_autospec(state.GlobalState, instance=True)
    accessor.get_draining_nodes.return_value = {"ab12": 0}
    monkeypatch.setattr(state, "state", accessor)
    slots = importlib.import_module("zooforge.zoo_jobs.running.slots.ray_worker")
    assert slots.draining_nodes() == {"ab12"}


def test_a_worker_whose_gpu_is_broken_is_replaced_and_the_cause_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken CUDA context stays broken for as long as its process lives."""
    ray_pool = importlib.import_module("zooforge.zoo_jobs.running.slots.ray_pool")
    cause = DeviceBroken("cuda:0: CUDA error: device-side assert triggered")

    def fails(call: object) -> None:
        raise ray_pool.ray.exceptions.RayTaskError("advance", "a long traceback", cause)

    monkeypatch.setattr(ray_pool.ray, "get", fails)
    pool = ray_pool.RayPool.__new__(ray_pool.RayPool)
    replaced: list[int] = []
    monkeypatch.setattr(pool, "replace", replaced.append, raising=False)
    pool._calls, pool._actors = {"call": (0, "actor"), "later": (0, "actor")}, ["actor"]
    done = pool._done("call")
    assert (done.slot, done.error, done.lost, done.out_of_memory) == (0, cause, False, False)
    assert replaced == [0]
    pool._actors = ["its successor"]
    pool._done("later")
    assert replaced == [0]


@pytest.mark.parametrize("lost", [False, True])
def test_a_signal_while_ray_starts_is_not_lost(monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    """Ray would install its own handler, and Python may ignore the exception of a handler; neither may happen."""
    ray_cluster = importlib.import_module("zooforge.zoo_jobs.running.slots.ray_cluster")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="the same command continues"), ray_cluster._own_signals():
        ray_cluster.ray_utils.set_sigterm_handler(lambda number, frame: None)
        with contextlib.suppress(SystemExit if lost else ()):
            signal.raise_signal(signal.SIGTERM)
            pytest.fail("the handler raised nothing")
    assert signal.getsignal(signal.SIGTERM) is before
    assert ray_cluster.ray_utils.set_sigterm_handler.__name__ == "set_sigterm_handler"
