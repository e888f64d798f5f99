"""Run steps on a real Kubernetes cluster: ``python -m tests.e2e [STEP ...]``. Each step prints its checks and duration.

Without arguments all steps of `make e2e` run; with ``chaos`` all steps of `make chaos-cluster`. This is no part of
`make test`; docs/e2e.md says what the steps need.

CLUSTER and IMAGE_TOOL are commands with the verbs up, down, env, load, gpu, exec, kill, node2 and build, load, save.
Those for kind and docker are in cluster/adapters.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Callable
from functools import partial

from tests.e2e import faults, nodes, planted, releases, runs, workers
from tests.e2e.quiet import QuietRuns
from tests.e2e.surroundings import CLUSTER, IMAGE, IMAGE_TOOL, LONG, MEDIUM, SMALL, sh, skipped

STEPS: dict[str, Callable[[], None]] = {
    "install": releases.install,
    "admission": releases.admission,
    "bad": releases.bad,
    "stop": runs.stop,
    "caps": runs.caps,
    "crash": runs.crash,
    "queued": runs.queued,
    "gpu": releases.gpu,
    "secret": planted.secret,
    "uninstall": releases.uninstall,
}
COMPARED: dict[str, tuple[Callable[[QuietRuns], None], tuple[str, ...]]] = {
    "run": (runs.run, SMALL),
    "faults": (faults.faults, LONG),
    "unschedulable": (faults.unschedulable, MEDIUM),
    "namespace": (faults.namespace, LONG),
    "drain": (nodes.drain, LONG),
    "cable": (nodes.cable, LONG),
    "power": (nodes.power, LONG),
    "raised": (workers.raised, LONG),
    "twice": (workers.twice, LONG),
}
WHOLE = {
    (): (
        "install",
        "admission",
        "run",
        "faults",
        "stop",
        "caps",
        "crash",
        "queued",
        "gpu",
        "bad",
        "secret",
        "uninstall",
    ),
    ("chaos",): ("install", "unschedulable", "raised", "twice", "drain", "cable", "power", "namespace"),
}


def main(names: tuple[str, ...]) -> None:
    steps = WHOLE.get(names, names)
    if unknown := sorted(set(steps) - {*STEPS, *COMPARED}):
        raise SystemExit(f"no step {', '.join(unknown)}; known are chaos, {', '.join([*STEPS, *COMPARED])}")
    with QuietRuns(dict.fromkeys(COMPARED[name][1] for name in steps if name in COMPARED)) as quiet:
        if names in WHOLE:
            sh(*CLUSTER, "up")
        for line in sh(*CLUSTER, "env").splitlines():
            if match := re.match(r"export (\w+)=(.*)", line):
                value = shlex.split(match[2])[0] if match[2] else ""
                os.environ[match[1]] = value.replace("$PATH", os.environ["PATH"])
        if names in WHOLE:
            began = time.monotonic()
            with planted.context() as context:
                revision = f"REVISION={sh('git', 'rev-parse', 'HEAD').strip()}"
                sh(*IMAGE_TOOL, "build", context, IMAGE, "--build-arg", revision, seconds=3600)
            sh(*IMAGE_TOOL, "load", IMAGE)
            print(f"----  building and loading the image: {time.monotonic() - began:.0f} s", flush=True)
        began = time.monotonic()
        for name in steps:
            step = STEPS[name] if name in STEPS else partial(COMPARED[name][0], quiet)
            doc = (STEPS.get(name) or COMPARED[name][0]).__doc__ or ""
            print(f"----  {name}: {doc.strip()}", flush=True)
            at = time.monotonic()
            step()
            print(f"----  {name}: {time.monotonic() - at:.0f} s", flush=True)
        print(f"----  all steps: {time.monotonic() - began:.0f} s; skipped: {len(skipped)}", flush=True)
        for text in skipped:
            print(f"skip  {text}", flush=True)


if __name__ == "__main__":
    main(tuple(sys.argv[1:]))
