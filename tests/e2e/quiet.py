"""Runs the same requests on this machine, without Ray or Kubernetes, to compare the cluster's manifests with."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e.surroundings import HERE, PYTHON, ROOT, ZOO, expect, manifests, store

LIMIT_SECONDS = 3600.0


class QuietRuns:
    """Local runs. They begin at once, one after another at the lowest priority, so that they are ready when needed."""

    def __init__(self, requests: Iterable[tuple[str, ...]]) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._processes: list[subprocess.Popen[str]] = []
        self._found: dict[tuple[str, ...], Future[dict[str, bytes]]] = {}
        for request in requests:
            self._found[request] = self._pool.submit(self._run, request)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.terminate()

    def same(self, request: tuple[str, ...], where: tuple[str, str] = HERE) -> None:
        """Check that the manifests in a release's store equal those of the local run."""
        if request not in self._found:
            self._found[request] = self._pool.submit(self._run, request)
        here = self._found[request].result(LIMIT_SECONDS)
        with store(where) as env:
            there = manifests(env)
        expect(
            here and {name: text for name, text in there.items() if name in here} == here,
            f"{len(here)} manifests equal those of a local run without Ray, byte for byte",
        )

    def _run(self, request: tuple[str, ...]) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory() as folder:
            where = f"{folder}/store"
            command = [*PYTHON, "run", ZOO, *request, "--store", where, "--ray", "none", "--no-metrics", "--quiet"]
            with (Path(folder) / "errors").open("w+") as errors:
                process = subprocess.Popen(
                    ["nice", "-n", "15", *command], cwd=ROOT, env=os.environ, stdout=errors, stderr=errors, text=True
                )
                self._processes.append(process)
                if process.wait(LIMIT_SECONDS):
                    errors.seek(0)
                    raise SystemExit(f"FAIL  the local run ended with {process.returncode}: {errors.read()[-800:]}")
            return manifests({"ZOO_STORE": where})
