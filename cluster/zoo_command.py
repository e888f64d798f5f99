"""Runs the command `zoo` and parses its output: everything this room knows about zoos comes from here."""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from .errors import ClusterError, InputError

TIMEOUT_SECONDS = 300


def plan(zoo: str, options: Sequence[str] = ()) -> list[dict[str, Any]]:
    """`zoo plan ZOO --json`: one object per stage. Raises InputError with the message of `zoo` for an unknown name."""
    rows: list[dict[str, Any]] = json.loads(run(["plan", zoo, *options, "--json"]))
    return rows


def spec_text(file: str, allow_code: bool) -> str:
    """`zoo show FILE --yaml`: the spec without paths of this machine.

    It contains a user's own images by their digest, and the text of a network that is code. If ``allow_code`` is true,
    that code is run here for its facts.
    """
    return run(["show", file, "--yaml", *(["--allow-code"] if allow_code else [])])


def pending(store: str, origin: str) -> list[dict[str, Any]]:
    """Unfinished runs that jobs of ``origin`` (cluster/namespace/release) began and that no driver works on."""
    rows: list[dict[str, Any]] = json.loads(_unattended(["pending", "--store", store, "--origin", origin]))
    return rows


def begun(store: str, origin: str) -> set[str]:
    """Identifiers of the submissions of ``origin`` whose drivers began."""
    return set(json.loads(_unattended(["begun", "--store", store, "--origin", origin])))


def stop(store: str, zoo: str, reason: str, *, single_writer: bool = False) -> None:
    """Record in the store that the zoo's run is stopped and must not be started again."""
    flags = ["--single-writer"] if single_writer else []
    _unattended(["stop", zoo, "--store", store, "--reason", reason, *flags])


def _unattended(arguments: Sequence[str]) -> str:
    return _python(["-m", "zooforge.zoo_jobs.unattended", *arguments])


def run(arguments: Sequence[str]) -> str:
    """Run `zoo` with this interpreter and return its stdout.

    Raises:
        InputError: its exit status is 2. ClusterError: any other failure. The message is the last line of its stderr.
    """
    return _python(["-c", "import sys, zooforge; sys.exit(zooforge.main())", *arguments])


def _python(arguments: Sequence[str]) -> str:
    what = " ".join(arguments[2:])
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(f"`zoo {what}` did not end within {TIMEOUT_SECONDS} s") from None
    if done.returncode:
        last = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1].removeprefix("zoo: ")
        raise InputError(last) if done.returncode == 2 else ClusterError(f"`zoo {what}`: {last}")
    return done.stdout
