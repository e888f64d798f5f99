"""The sbatch array that grows a zoo on a cluster without Kubernetes. Pure."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

NOTICE_SECONDS = 120  # between Slurm's SIGTERM and the end of a task
REQUEUE = 75  # exit status of a task that was told to leave and wants to go on


@dataclass(frozen=True, slots=True)
class Array:
    """What is asked of Slurm."""

    name: str
    """Of the zoo."""
    tasks: int
    """At most; which of them runs, and when, changes no byte."""
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

    Every task claims models that no other has, so any number of tasks may run, start late, be preempted or be killed.
    One that is told to leave commits its epoch and ends with 75; the script then puts it into the queue again.

    Args:
        arguments: of ``zoo``, without what the script adds.
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
        "trap : TERM  # the step hears it too, and commits; this shell has to outlive it",
        "export OMP_NUM_THREADS=1",
        f'{command} --ray none --slots "${{SLURM_CPUS_PER_TASK:-1}}" --unattended --no-metrics',
        "status=$?",
        f'if [ "$status" -eq {REQUEUE} ]; then',
        '    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"',
        "fi",
        'exit "$status"',
    ]
    return "\n".join(lines) + "\n"
