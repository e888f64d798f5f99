"""Access to the cluster under test: commands, waits, pods, and clients of the store through a port-forward."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = shlex.split(os.environ.get("CLUSTER", str(ROOT / "cluster" / "adapters" / "kind")))
IMAGE_TOOL = shlex.split(os.environ.get("IMAGE_TOOL", str(ROOT / "cluster" / "adapters" / "docker")))
IMAGE = os.environ.get("IMAGE", "localhost/zooforge:dev")
NAMESPACE = os.environ.get("E2E_NAMESPACE", "zoos-e2e")
RELEASE, ZOO = "zooforge", "mnist5k-cnn-s"
RESEARCHER = "researcher"  # a service account with only the submitter's Role
HERE = (NAMESPACE, RELEASE)  # namespace and release of the embedded store
VALUES = Path(__file__).parent / "values.yaml"
PYTHON = [sys.executable, "-c", "import sys, zooforge; sys.exit(zooforge.main())"]

SMALL = ("--models", "0:32", "--epochs", "4", "--twin-epochs", "2")
MEDIUM = ("--models", "0:48", "--epochs", "16", "--no-twins")
LONG = ("--models", "0:96", "--epochs", "24", "--no-twins")


def sh(*command: str, check: bool = True, env: dict[str, str] | None = None, seconds: float = 900) -> str:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, env={**os.environ, **(env or {})}
    )
    if check and done.returncode:
        raise SystemExit(f"FAIL  {shlex.join(command)} ended with {done.returncode}: {done.stderr.strip()[-800:]}")
    return done.stdout if check else f"{done.returncode} {done.stdout}{done.stderr}"


def kubectl(*arguments: str, check: bool = True) -> str:
    return sh("kubectl", "-n", NAMESPACE, *arguments, check=check)


def apply(manifest: dict[str, Any], namespace: str = NAMESPACE) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(manifest, file)
        file.flush()
        sh("kubectl", "-n", namespace, "apply", "-f", file.name)


def zoo_cluster(verb: str, *arguments: str, check: bool = True, env: dict[str, str] | None = None) -> str:
    return sh(*PYTHON, "cluster", verb, *arguments, "--namespace", NAMESPACE, check=check, env=env)


def submit(zoo: str, *options: str, env: dict[str, str] | None = None) -> str:
    """Submit a run. Returns the name of the RayJob."""
    return zoo_cluster("submit", zoo, *options, "--yes", env=env).split()[-1]


def deploy(*settings: str) -> None:
    """Install or upgrade the release with its embedded store."""
    subject = {"kind": "ServiceAccount", "name": RESEARCHER, "namespace": NAMESPACE}
    people = [f"submitter.subjects[0].{key}={value}" for key, value in subject.items()]
    options = [word for setting in (*people, *settings) for word in ("--set", setting)]
    zoo_cluster("deploy", "-f", str(VALUES), "--embedded-store", "--image", IMAGE, "--wait", "300", *options)


def make_namespace(name: str = NAMESPACE) -> None:
    """Create a namespace that admits only restricted pods."""
    sh("kubectl", "create", "namespace", name, check=False)
    sh("kubectl", "label", "--overwrite", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")


def say(text: str) -> None:
    print(f"pass  {text}", flush=True)


skipped: list[str] = []


def skip(text: str) -> None:
    """Print that something was not checked, and why. The last line counts these."""
    skipped.append(text)
    print(f"skip  {text}", flush=True)


def expect(condition: object, what: str) -> None:
    if not condition:
        raise SystemExit(f"FAIL  {what}")
    say(what)


def wait(seconds: float, what: str, condition: Callable[[], Any]) -> Any:
    began = time.monotonic()
    while True:
        with contextlib.suppress(SystemExit, subprocess.TimeoutExpired):
            if value := condition():
                say(f"{what} after {time.monotonic() - began:.0f} s")
                return value
        if time.monotonic() - began > seconds:
            raise SystemExit(f"FAIL  not within {seconds:.0f} s: {what}\n{zoo_cluster('status', check=False)}")
        time.sleep(2)


def pods(selector: str) -> list[dict[str, Any]]:
    items = json.loads(kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
    return [pod for pod in items if not pod["metadata"].get("deletionTimestamp")]


def ready(selector: str) -> list[str]:
    return [
        pod["metadata"]["name"]
        for pod in pods(selector)
        if all(status["ready"] for status in pod["status"].get("containerStatuses") or [{"ready": False}])
    ]


def jobs() -> dict[str, dict[str, Any]]:
    rows = json.loads(zoo_cluster("status", "--json"))["runs"]
    return {row["job"]: row for row in rows}


@contextlib.contextmanager
def store(where: tuple[str, str] = HERE) -> Iterator[dict[str, str]]:
    """The environment of a client outside the cluster, during a port-forward to a release's store."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    there, release = where
    command = ["kubectl", "-n", there, "port-forward", f"svc/{release}-store", f"{port}:8333"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "credentials"
        path.touch(mode=0o600)
        path.write_bytes(credentials(there))
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as forward:
            time.sleep(2)
            try:
                yield {
                    "AWS_SHARED_CREDENTIALS_FILE": str(path),
                    "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
                    "AWS_REGION": "us-east-1",
                    "ZOO_STORE": "s3://zoos",
                }
            finally:
                forward.terminate()


def credentials(namespace: str = NAMESPACE) -> bytes:
    """The credentials file in the embedded store's Secret."""
    secret = json.loads(sh("kubectl", "-n", namespace, "get", "secret", "zoo-store", "-o", "json"))
    return base64.b64decode(secret["data"]["credentials"])


def in_store(code: str, *arguments: str, env: dict[str, str]) -> str:
    """Run a Python program, in which ``s`` is the store and ``a`` the arguments. Returns what it prints."""
    begin = "import os, sys, json; from zooforge.storage.stores.open import open_store; "
    begin += "s = open_store(os.environ['ZOO_STORE']); a = sys.argv[1:]\n"
    return sh(sys.executable, "-c", begin + code, *arguments, env=env)


def done(zoo: str = ZOO, where: tuple[str, str] = HERE) -> dict[str, Any]:
    """`zoo status` of the zoo, from outside."""
    with store(where) as env:
        status: dict[str, Any] = json.loads(sh(*PYTHON, "status", zoo, "--json", env=env))
        return status


def known_zoos(where: tuple[str, str] = HERE) -> list[str]:
    with store(where) as env:
        return [row["zoo"] for row in json.loads(sh(*PYTHON, "store", "ls", "--json", env=env))]


def manifests(env: dict[str, str]) -> dict[str, bytes]:
    """The bytes of the newest manifest of each zoo of a store."""
    code = (
        "found = {}\n"
        "for stat in s.list('zoos/'):\n"
        "    if stat.key.endswith('/manifest.json'):\n"
        "        found[stat.key.split('/')[1]] = s.get(stat.key)[0].hex()\n"
        "print(json.dumps(found))\n"
    )
    return {name: bytes.fromhex(text) for name, text in json.loads(in_store(code, env=env)).items()}


def catalogue() -> list[str]:
    return [row["name"] for row in json.loads(sh(*PYTHON, "list", "--json"))]
