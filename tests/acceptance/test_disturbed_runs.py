"""A run that is disturbed, split or resumed publishes the same bytes as an undisturbed run."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.acceptance_specs import MODELS, NUM_EPOCHS, NUM_MODELS, NUM_TWIN_EPOCHS, write
from tests.support.command import Command, Running, command_lines, done, manifest, num_records

pytestmark = pytest.mark.ray

ALL_PARTS = NUM_EPOCHS + 1


def is_published_like(quiet: Path, store: str | Path, *zoos: str) -> bool:
    return all(manifest(store, zoo) == manifest(quiet, zoo) for zoo in zoos)


def wait_for_workers(running: Running) -> list[int]:
    workers: list[int] = []

    def there() -> bool:
        workers[:] = [pid for pid, line in running.children().items() if line.startswith("ray::RayWorker")]
        return bool(workers)

    running.wait_until(there, "a worker process")
    return workers


@pytest.mark.s3
def test_a_run_on_s3_whose_driver_is_killed_twice_publishes_the_bytes_of_an_undisturbed_run(
    quiet: Path, s3_zoo: Command, spec: Path, s3_store_url: str
) -> None:
    arguments = ("run", spec, "--models", MODELS, "--store", s3_store_url)
    with s3_zoo.start(*arguments) as running:
        running.wait_until(lambda: num_records(s3_store_url) >= 1, "a record")
        running.kill()
        killed_at = num_records(s3_store_url)
        while [line for line in running.survivors().values() if "Agent" not in line]:  # agents leave later
            time.sleep(0.1)
    assert killed_at < 8 * ALL_PARTS, "the run was over before it was killed"
    with s3_zoo.start(*arguments) as running:
        running.wait_until(lambda: num_records(s3_store_url) >= 8 * ALL_PARTS + 2, "records of twins")
        running.kill()
    ended = done(s3_zoo(*arguments))
    assert "0 of" not in ended.err.split("train small:")[1].splitlines()[0]
    assert is_published_like(quiet, s3_store_url, "small", "small-vd")


def test_a_run_that_gets_sigterm_then_ctrl_c_says_how_to_continue_and_publishes_the_bytes_of_an_undisturbed_run(
    quiet: Path, zoo: Command, spec: Path, tmp_path: Path
) -> None:
    arguments = ("run", spec, "--models", MODELS, "--no-twins", "--store", tmp_path)
    for records, leave in ((4, Running.terminate), (16, Running.interrupt)):
        with zoo.start(*arguments) as running:
            running.wait_until(lambda records=records: num_records(tmp_path) >= records, f"{records} records")
            leave(running)
            ended = running.wait()
            assert ended.status == 75, ended.err
            assert "the same command continues" in ended.err.splitlines()[-1]
            assert "Traceback" not in ended.err
            assert num_records(tmp_path) < 8 * ALL_PARTS
            assert not running.children()
    done(zoo(*arguments))
    assert is_published_like(quiet, tmp_path, "small")


def test_a_signal_while_ray_starts_ends_with_75_and_says_how_to_continue(
    zoo: Command, spec: Path, tmp_path: Path
) -> None:
    with zoo.start("train", spec, "--models", "0:4", "--store", tmp_path) as running:
        running.wait_until(lambda: any("gcs_server" in line for line in running.children().values()), "Ray starting")
        running.terminate()
        ended = running.wait()
    assert ended.status == 75, ended.err
    assert "the same command continues" in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err


def test_a_worker_that_is_killed_costs_at_most_its_epoch(quiet: Path, zoo: Command, spec: Path, tmp_path: Path) -> None:
    with zoo.start("run", spec, "--models", MODELS, "--no-twins", "--store", tmp_path) as running:
        workers = wait_for_workers(running)
        running.wait_until(lambda: num_records(tmp_path) >= 4, "4 records")
        os.kill(workers[0], signal.SIGKILL)
        ended = done(running.wait())
    assert "a worker was lost" in ended.err
    assert is_published_like(quiet, tmp_path, "small")


def test_more_models_and_epochs_later_in_other_chunks_and_slots_give_the_same_bytes(
    quiet: Path, zoo: Command, spec: Path, tmp_path: Path
) -> None:
    few = ("--models", "0:12", "--epochs", "3", "--chunk-models", "3", "--slots", "2", "--no-twins")
    short = done(zoo("run", spec, "--store", tmp_path, *few))
    assert "3 of 6 epochs" in short.out
    done(zoo("run", spec, "--models", MODELS, "--store", tmp_path, "--chunk-models", "1", "--slots", "1", "--no-twins"))
    assert is_published_like(quiet, tmp_path, "small")


def test_commits_every_two_epochs_give_the_same_bytes(quiet: Path, zoo: Command, tmp_path: Path) -> None:
    path = write(tmp_path / "spec", commit_every=2)
    done(zoo("run", path, "--models", MODELS, "--store", tmp_path / "store"))
    assert num_records(tmp_path / "store") == 8 * (1 + NUM_EPOCHS // 2) + 4 * (1 + NUM_TWIN_EPOCHS // 2)
    assert is_published_like(quiet, tmp_path / "store", "small", "small-vd")


def test_two_drivers_at_once_give_the_same_bytes(quiet: Path, zoo: Command, spec: Path, tmp_path: Path) -> None:
    arguments = ("run", spec, "--models", MODELS, "--no-twins", "--store", tmp_path, "--slots", "1")
    with zoo.start(*arguments) as first, zoo.start(*arguments) as second:
        done(first.wait())
        done(second.wait())
    assert is_published_like(quiet, tmp_path, "small")


def test_running_again_changes_nothing(quiet: Path, zoo: Command, spec: Path) -> None:
    before = num_records(quiet)
    again = done(zoo("run", spec, "--models", MODELS, "--store", quiet))
    assert again.out.count("(nothing new)") == 2
    assert num_records(quiet) == before == NUM_MODELS // 4 * ALL_PARTS + 4 * (NUM_TWIN_EPOCHS + 1)
    assert not any("gcs_server" in line and str(quiet) in line for line in command_lines().values())
