"""The door to Helm: the command `helm`, version 3.17 or later, or 4."""

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
    """Path of `helm`. Raises InputError if there is none; the variable HELM names another one than PATH's."""
    found = shutil.which(os.environ.get("HELM", "helm"))
    if found is None:
        raise InputError("the command helm is not in PATH; install it (https://helm.sh), or set HELM to its path")
    return found


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
    """The command that installs or upgrades; values come on its stdin.

    With Helm 4 the fields are applied by the server, and the autoscaler owns the workers' list of a standing cluster:
    an upgrade has to take it back, which is harmless, as the chart leaves replicas to the autoscaler.
    """
    command = [program(), "upgrade", "--install", release, chart, "--namespace", namespace]
    command += ["--kube-context", context] if context else []
    command += ["--server-side=true", "--force-conflicts"] if major_version() >= 4 else []
    command += [word for setting in settings for word in ("--set", setting)]
    return [*command, *extra, *(["--values", "-"] if values else [])]


def run(command: Sequence[str], values: Mapping[str, Any] | None = None) -> None:
    """Run a command, which is printed first. Raises InputError if Helm refuses the values, ClusterError otherwise."""
    sys.stderr.write(f"+ {shlex.join(command)}\n")
    done = subprocess.run(
        command, input=yaml.safe_dump(dict(values)) if values else None, text=True, capture_output=True, check=False
    )
    if done.returncode:
        raise failure(done.stderr)
    sys.stdout.write(done.stdout)


def failure(stderr: str) -> ClusterError:
    """Helm's complaint as one line; what the chart's own checks say is given alone."""
    text = " ".join(stderr.replace("Use --debug flag to render out invalid YAML", "").split())
    if own := re.search(r"execution error at \([^)]*\): (.*)", text):
        return InputError(own[1])
    if "don't meet the specifications of the schema" in text:
        return InputError(text.removeprefix("Error: "))
    return ClusterError(text.removeprefix("Error: ") or "helm failed and said nothing")
