"""What this room knows about zoos: what the command `zoo` prints. The one place that runs it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import ClusterError, InputError

TIMEOUT_SECONDS = 300


def plan(zoo: str, options: Sequence[str] = ()) -> list[dict[str, Any]]:
    """`zoo plan ZOO --json`: one object per machine asked for. Raises InputError with what `zoo` says of a bad name."""
    rows: list[dict[str, Any]] = json.loads(run(["plan", zoo, *options, "--json"]))
    return rows


def status(store: str, environment: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """`zoo status all --json` of a store."""
    rows: list[dict[str, Any]] = json.loads(run(["status", "all", "--store", store, "--json"], environment))
    return rows


def pending(store: str, origin: str) -> list[dict[str, Any]]:
    """Runs that jobs of ``origin`` (namespace/release) began, that are still wanted and that nobody drives."""
    rows: list[dict[str, Any]] = json.loads(_unattended(["pending", "--store", store, "--origin", origin]))
    return rows


def stop(store: str, zoo: str, reason: str) -> None:
    """Write into the store that the zoo's run shall end and stay so."""
    _unattended(["stop", zoo, "--store", store, "--reason", reason])


def _unattended(arguments: Sequence[str]) -> str:
    return _python(["-m", "zooforge.zoo_jobs.unattended", *arguments], {})


def run(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run `zoo` with the interpreter that runs us, and give its stdout.

    Raises:
        InputError: it ended with status 2. ClusterError: with another one; the message is its last line.
    """
    return _python(["-c", "import sys, zooforge; sys.exit(zooforge.main())", *arguments], environment or {})


def _python(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    what = " ".join(arguments[2:])
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, **environment},
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
