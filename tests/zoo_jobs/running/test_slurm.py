"""The sbatch array: the options for Slurm, what the script does in a shell, and refusals."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.controls import set_control
from zooforge.storage.runs.run_files import Control, read_control
from zooforge.storage.stores.open import open_store
from zooforge.zoo_jobs import cli
from zooforge.zoo_jobs.catalogue import entries

ZOO = entries.load("mnist5k-cnn-s")


def options(text: str) -> dict[str, str]:
    options = (
        line.removeprefix("#SBATCH --").partition("=") for line in text.splitlines() if line.startswith("#SBATCH")
    )
    return {key: value for key, _, value in options}


def slurm(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = cli.main(["slurm", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


def tools(folder: Path, status: int) -> dict[str, str]:
    """An environment whose srun shows its command and ends with ``status``, and whose scontrol writes to a file."""
    folder.mkdir()
    (folder / "srun").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@"\nexit {status}\n')
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(folder / "said"))}\n')
    for name in ("srun", "scontrol"):
        (folder / name).chmod(0o755)
    ids = {"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "2"}
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", **ids}


def test_an_array_has_the_options_for_preemption_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text, _ = slurm(
        capsys, "mnist5k-cnn-s", "--store", tmp_path / "store", "--partition", "cpu", "--at-once", 9
    )
    assert status == 0
    said = options(text)
    assert (said["signal"], said["array"], said["partition"], said["open-mode"]) == (
        "TERM@120",
        "0-63%9",
        "cpu",
        "append",
    )
    assert "requeue" in said
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(("status", "requeued"), [(0, ""), (1, ""), (75, "requeue 77_3\n")])
def test_only_a_preempted_task_is_put_into_the_queue_again(
    status: int, requeued: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = tmp_path / "a folder" / "array.sh"
    name.parent.mkdir()
    slurm(capsys, "mnist5k-cnn-s", "--store", name.parent, "--models", "0:64", "--no-twins", "-o", name)
    environment = tools(tmp_path / "bin", status)
    ended = subprocess.run(["bash", name], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == status
    words = ["zoo", "run", "mnist5k-cnn-s", "--store", str(name.parent), "--models", "0:64", "--no-twins"]
    words += ["--ray", "none", "--slots", "2", "--unattended", "--no-metrics"]
    assert ended.stdout.splitlines() == words
    said = tmp_path / "bin" / "said"
    assert (said.read_text() if said.exists() else "") == requeued


def test_a_container_sees_the_store_and_the_spec(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "mine.yaml").write_text((entries.FOLDER / "digits8-cnn-s.yaml").read_text())
    (tmp_path / "zoo.sif").touch()
    monkeypatch.chdir(tmp_path)
    _, text, _ = slurm(capsys, "specs/mine.yaml", "--store", "zoos", "--container", "zoo.sif")
    binds = f"--bind {tmp_path}/zoos --bind {tmp_path}/specs zoo.sif"
    assert f"srun apptainer exec {binds} zoo run {tmp_path}/specs/mine.yaml --store {tmp_path}/zoos" in text


def test_an_image_may_be_in_a_registry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = "docker://registry.example.org/zooforge:1"
    _, text, _ = slurm(capsys, "mnist5k-cnn-s", "--store", tmp_path, "--container", image)
    assert f" {image} zoo run " in text


def test_no_more_tasks_than_pieces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, text, said = slurm(capsys, "mnist5k-cnn-s", "--store", tmp_path, "--models", "0:16", "--tasks", "40")
    number = int(options(text)["array"].removeprefix("0-")) + 1
    assert number < 40
    assert f"{number} tasks are enough" in said


def test_a_stopped_run_is_wanted_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(str(tmp_path))
    set_control(store, ZOO.run_id, Control("stopped", "the cap of 1 dollars is reached"))
    _, _, said = slurm(capsys, "mnist5k-cnn-s", "--store", tmp_path)
    assert "was stopped (the cap of 1 dollars is reached) and is wanted again" in said
    control = read_control(store, ZOO.run_id)
    assert control is not None
    assert control.wanted == "run"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mnist5k-cnn-x"], "unknown zoo 'mnist5k-cnn-x'"),
        (["mnist5k-cnn-s", "--models", "9:3"], "--models 9:3 is empty"),
        (["mnist5k-cnn-s", "--no-twins", "--twin-epochs", "2"], "contradict each other"),
        (["mnist5k-cnn-s", "--sbatch", "--array=0-9"], "expected another option of sbatch"),
        (["mnist5k-cnn-s", "--sbatch", "--x\nrm -rf y"], "expected another option of sbatch"),
        (["mnist5k-cnn-s", "--partition", "a\nrm b"], "sbatch takes no such value"),
        (["mnist5k-cnn-s", "--container", "none.sif"], "no such image"),
        (["mnist5k-cnn-s-vd"], "are the twins of mnist5k-cnn-s"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = slurm(capsys, *arguments, "--store", tmp_path / "store", "-o", tmp_path / "array.sh")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert said in err
    assert list(tmp_path.iterdir()) == []
