"""Writes the sbatch script that trains a zoo on a Slurm cluster. Pure."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

NOTICE_SECONDS = 120  # between Slurm's SIGTERM and the end of a task
REQUEUE = 75  # exit status of a task that had to leave and has to be queued again


@dataclass(frozen=True, slots=True)
class Array:
    """Settings of a Slurm job array."""

    name: str
    """Name of the zoo."""
    tasks: int
    """Number of tasks of the array. Which of them run, and when, changes no byte."""
    cpus: int
    memory: str
    time: str
    most: int | None = None
    """Tasks at once."""
    partition: str | None = None
    account: str | None = None
    extra: tuple[str, ...] = ()
    """Further options of sbatch, such as ``--constraint=avx512``."""
    container: str | None = None
    """An Apptainer image that the tasks run in."""
    binds: tuple[str, ...] = ()
    """Folders that the container sees at the same path."""


def script(array: Array, arguments: Sequence[str], made_by: str, zoo: Sequence[str] = ("zoo",)) -> str:
    """The script for sbatch.

    Every task claims models that no other task has, so tasks may start late, be preempted or be killed. A task that
    has to leave commits its epoch and ends with 75; the script then queues it again.

    Args:
        arguments: of ``zoo``, without those that the script adds.
        zoo: the command line of ``zoo`` on the nodes.
    """
    options = [
        f"--job-name=zoo-{array.name}",
        f"--array=0-{array.tasks - 1}" + (f"%{array.most}" if array.most else ""),
        "--ntasks=1",
        f"--cpus-per-task={array.cpus}",
        f"--mem={array.memory}",
        f"--time={array.time}",
        f"--signal=TERM@{NOTICE_SECONDS}",
        "--requeue",
        "--open-mode=append",
        f"--output=zoo-{array.name}-%A_%a.log",
        *([f"--partition={array.partition}"] if array.partition else []),
        *([f"--account={array.account}"] if array.account else []),
        *array.extra,
    ]
    inside = [
        *(["apptainer", "exec", *(w for b in array.binds for w in ("--bind", b))] if array.container else []),
        *([array.container] if array.container else []),
        *zoo,
    ]
    command = shlex.join(["srun", *inside, *arguments])
    lines = [
        "#!/bin/bash",
        f"# Made by `{made_by}`.",
        "# Each task trains models that no other task has; the one that commits the last of them publishes the zoo.",
        *(f"#SBATCH {option}" for option in options),
        "",
        "trap : TERM  # the step gets it too, and commits; this shell has to outlive it",
        "export OMP_NUM_THREADS=1",
        f'{command} --ray none --slots "${{SLURM_CPUS_PER_TASK:-1}}" --unattended --no-metrics',
        "status=$?",
        f'if [ "$status" -eq {REQUEUE} ]; then',
        '    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"',
        "fi",
        'exit "$status"',
    ]
    return "\n".join(lines) + "\n"
