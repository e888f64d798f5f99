"""Runs the command `helm`, version 3.17 or later, or 4."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from .errors import ClusterError, InputError


def program() -> str:
    """Path of `helm`: the variable HELM if it is set, else from PATH. Raises InputError if there is none."""
    path = shutil.which(os.environ.get("HELM", "helm"))
    if path is None:
        raise InputError("the command helm is not in PATH; install it (https://helm.sh), or set HELM to its path")
    return path


def major_version() -> int:
    text = subprocess.run([program(), "version", "--short"], capture_output=True, text=True, check=False).stdout
    match = re.match(r"v(\d+)", text)
    if match is None:
        raise ClusterError(f"helm version says {text!r}; expected a version such as v4.1.0")
    return int(match[1])


def upgrade(
    release: str,
    chart: str,
    namespace: str,
    context: str | None,
    values: Mapping[str, Any],
    settings: Sequence[str],
    extra: Sequence[str] = (),
) -> list[str]:
    """The command that installs or upgrades the release. It reads the values from stdin.

    Helm 4 uses server-side apply, and Ray's autoscaler owns the field ``workerGroupSpecs`` of a standing cluster, so
    the upgrade has to force conflicts. That is harmless: the chart leaves the number of replicas to the autoscaler.
    """
    command = [program(), "upgrade", "--install", release, chart, "--namespace", namespace]
    command += ["--kube-context", context] if context else []
    command += ["--server-side=true", "--force-conflicts"] if major_version() >= 4 else []
    command += [word for setting in settings for word in ("--set", setting)]
    return [*command, *extra, *(["--values", "-"] if values else [])]


def run(command: Sequence[str], values: Mapping[str, Any] | None = None) -> None:
    """Print a command and run it. Raises InputError if Helm refuses the values, ClusterError for any other failure."""
    sys.stderr.write(f"+ {shlex.join(command)}\n")
    done = subprocess.run(
        command, input=yaml.safe_dump(dict(values)) if values else None, text=True, capture_output=True, check=False
    )
    if done.returncode:
        raise failure(done.stderr)
    sys.stdout.write(done.stdout)


def failure(stderr: str) -> ClusterError:
    """Helm's error message as one line. Of a failed check of the chart only the chart's sentence is kept."""
    text = " ".join(stderr.replace("Use --debug flag to render out invalid YAML", "").split())
    if own := re.search(r"execution error at \([^)]*\): (.*)", text):
        return InputError(own[1])
    if "don't meet the specifications of the schema" in text:
        return InputError(text.removeprefix("Error: "))
    return ClusterError(text.removeprefix("Error: ") or "helm failed and said nothing")
