"""The tasks of an sbatch array share a store; each runs the script of `zoo slurm` and gets its own SIGTERM."""

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.acceptance_specs import MODELS, NUM_EPOCHS
from tests.support.command import ZOO, Command, Running, done, manifest, num_records
from zooforge.storage.publish.head import read_spec
from zooforge.storage.stores.open import open_store
from zooforge.zoo_jobs.watching.run_log import read_logs

pytestmark = pytest.mark.ray

ALL_PARTS = 8 * (NUM_EPOCHS + 1)
SRUN = '#!/bin/sh\nexec "$@"\n'
SCONTROL = '#!/bin/sh\necho "$@" >> "$(dirname "$0")/requeued"\n'


def task(zoo: Command, script: Path, tools: Path, number: int) -> Running:
    ids = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(number), "SLURM_CPUS_PER_TASK": "1"}
    path = f"{tools}:{ZOO.parent}:{os.environ['PATH']}"
    return Running(["bash", str(script)], zoo.environment | ids | {"PATH": path}, zoo.secrets)


def terminate(running: Running) -> None:
    """Send SIGTERM to the step, not to the shell of the batch script, as Slurm does with --signal=TERM@120."""
    (step,) = (pid for pid, line in running.children().items() if " run " in line)
    os.kill(step, signal.SIGTERM)


def test_tasks_that_are_preempted_and_requeued_train_every_model_once_and_publish_the_bytes_of_an_undisturbed_run(
    quiet: Path, zoo: Command, spec: Path, tmp_path: Path
) -> None:
    tools, store, script = tmp_path / "bin", tmp_path / "store", tmp_path / "array.sh"
    tools.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    done(zoo("slurm", spec, "--models", MODELS, "--no-twins", "--store", store, "-o", script))
    with task(zoo, script, tools, 0) as first, task(zoo, script, tools, 1) as second:
        for running, records in ((first, 4), (second, 16)):
            running.wait_until(lambda records=records: num_records(store) >= records, f"{records} records")
            terminate(running)
        assert [first.wait().status, second.wait().status] == [75, 75]
    assert sorted((tools / "requeued").read_text().splitlines()) == ["requeue 7_0", "requeue 7_1"]
    left = num_records(store)
    assert left < ALL_PARTS, "the run was over before its tasks were told to leave"
    with (
        task(zoo, script, tools, 0) as first,
        task(zoo, script, tools, 1) as second,
        task(zoo, script, tools, 2) as third,
    ):
        for running in (first, second, third):
            done(running.wait())
    assert num_records(store) == ALL_PARTS
    assert manifest(store, "small") == manifest(quiet, "small")
    opened = open_store(str(store))
    spec_read = read_spec(opened, "small")
    assert spec_read is not None
    events = [e for e in read_logs(opened, spec_read.content["run"]) if e["message"] == "part committed"]
    times = Counter((event["first_model"], event["epoch"]) for event in events)
    assert len(times) == ALL_PARTS
    assert set(times.values()) == {1}, "a part was trained by two tasks"


def test_a_task_that_is_killed_leaves_its_claim_and_no_gap(
    quiet: Path, zoo: Command, spec: Path, tmp_path: Path
) -> None:
    arguments = ("run", spec, "--models", MODELS, "--no-twins", "--ray", "none", "--store", tmp_path, "--no-metrics")
    with zoo.start(*arguments) as killed:
        killed.wait_until(lambda: num_records(tmp_path) >= 4, "4 records")
        killed.kill()
    old = time.time() - 130  # as if nobody had renewed it for more than 120 s
    for claim in tmp_path.glob("runs/*/claims/*"):
        os.utime(claim, (old, old))
    done(zoo(*arguments))
    assert manifest(tmp_path, "small") == manifest(quiet, "small")
