"""Searches for leaked secrets: those put into the image's build context, and the keys of the store."""

from __future__ import annotations

import base64
import contextlib
import gzip
import re
import secrets
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tests.e2e.surroundings import (
    IMAGE,
    IMAGE_TOOL,
    NAMESPACE,
    RELEASE,
    ROOT,
    credentials,
    expect,
    in_store,
    kubectl,
    pods,
    sh,
    skip,
    store,
    zoo_cluster,
)

PLACES = (".env", ".git/config", ".zooforge/s3/keys.json", "build/key", "credentials", "zoo_jobs/.env.local",
          "storage/credentials", "cluster/tls.pem", "helm/id_rsa", "zoo_jobs/id_ed25519")  # fmt: skip
CHUNK_BYTES = 16 * 1024**2
planted: list[str] = []


@contextlib.contextmanager
def context() -> Iterator[str]:
    """Make a copy of the working tree as git knows it, with secrets in files where people keep them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    value = secrets.token_hex(20)
    with tempfile.TemporaryDirectory() as folder:
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, Path(folder) / name)
        for name in PLACES:
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_text(f"aws_secret_access_key = {value}\n")
        planted.append(value)
        yield folder


def secret() -> None:
    """No secret appears in objects, events, logs, status, the store, or the image's layers."""
    key = re.search(rb"aws_secret_access_key *= *(\S+)", credentials())
    assert key is not None
    values = [key[1].decode(), base64.b64encode(key[1]).decode().rstrip("=")[:-1], *planted]
    kinds = kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    seen = {kind: kubectl("get", kind, "-o", "yaml", check=False) for kind in kinds if kind != "secrets"}
    for pod in pods(""):
        name = pod["metadata"]["name"]
        seen[f"log of {name}"] = kubectl("logs", name, "--all-containers", "--prefix", check=False)
    seen["status"] = zoo_cluster("status", "--json")
    seen["helm values"] = sh("helm", "get", "values", RELEASE, "-n", NAMESPACE, "--all")
    walk = "for stat in s.list(''):\n"
    walk += "    if stat.key.endswith(('.json', '.jsonl')): print(s.get(stat.key)[0].decode(errors='replace'))\n"
    with store() as env:
        seen["the store's records and logs"] = in_store(walk, env=env)
    places = [where for where, text in seen.items() if any(value in text for value in values)]
    expect(
        not places,
        f"no secret is in {sum(map(len, seen.values())):,} characters of {len(seen)} listings {places or ''}",
    )
    _image([value.encode() for value in values])


def _image(values: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.tar"
        said = sh(*IMAGE_TOOL, "save", IMAGE, str(path), check=False)
        if not path.is_file():
            skip(f"the image's layers were not searched: its tool cannot save an image ({said.strip()[-80:]})")
            return
        places, size, files = [], 0, 0
        # A text that is in the image shows that the search works.
        known = b"Grow, sparsify, publish and read model zoos"
        seen = False
        with tarfile.open(path) as image:
            for member in image:
                if (
                    member.isfile() and (file := image.extractfile(member)) is not None
                ):  # the targets of links are read as files of their own
                    files += 1
                    for chunk in _chunks(file):
                        size += len(chunk)
                        places += [member.name for value in values if value in chunk]
                        seen = seen or known in chunk
        what = "planted ones and the store's" if planted else "the store's"
        expect(seen and not places, f"no secret ({what}) is in {files} layers and records of the image, {size:,} bytes")


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    """The decompressed content of a member, in chunks. They overlap so that no secret is split between two."""
    with contextlib.ExitStack() as stack:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if packed:
            file = stack.enter_context(gzip.GzipFile(fileobj=file))
        tail = b""
        while chunk := file.read(CHUNK_BYTES):
            yield tail + chunk
            tail = chunk[-256:]
