"""The policies of docs/how-to/bucket-access.md on a real S3 server: they allow what is needed, and no more."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from zooforge.storage.errors import AccessDenied, StorageError
from zooforge.storage.stores import seaweedfs
from zooforge.storage.stores.s3.store import S3Store

weed = Path(sys.executable).parent / "weed"
pytestmark = pytest.mark.skipif(not weed.exists(), reason="SeaweedFS is not installed")
ZOO = [sys.executable, "-c", "import sys, zooforge; sys.exit(zooforge.main())"]
BUCKET, PREFIX = "zoo", "zoos"


def policies() -> dict[str, Any]:
    """The document's policies, for this bucket."""
    (block,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "how-to" / "bucket-access.md").read_text(), re.DOTALL)
    return dict(json.loads(block.replace("BUCKET", BUCKET).replace("PREFIX", PREFIX)))


def keys(name: str) -> dict[str, str]:
    return {"aws_access_key_id": f"{name}-key", "aws_secret_access_key": f"{name}-secret"}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server with one identity per policy, and an administrator."""
    folder = tmp_path_factory.mktemp("s3")
    known = policies()
    identities: list[dict[str, Any]] = [{"name": "admin", "actions": ["Admin"]}]
    identities += [{"name": name, "actions": [], "policyNames": [name]} for name in known]
    for one in identities:
        pair = keys(one["name"])
        one["credentials"] = [{"accessKey": pair["aws_access_key_id"], "secretKey": pair["aws_secret_access_key"]}]
    documents = [
        {"name": name, "content": json.dumps({"Version": "2012-10-17", "Statement": statements})}
        for name, statements in known.items()
    ]
    config = folder / "identities.json"
    config.write_text(json.dumps({"identities": identities, "policies": documents}))
    ports = seaweedfs._free_ports({}, seaweedfs.PORTS)
    (folder / "data").mkdir()
    command = [
        str(weed), "-logtostderr", "mini", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-bucket={BUCKET}",
        f"-s3.config={config}", *(f"-{name}={port}" for name, port in ports.items()),
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    url = f"http://127.0.0.1:{ports['s3.port']}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
    try:
        while True:
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            try:
                store_of(url, "admin").put("ready", b"")
                break
            except StorageError:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def store_of(endpoint: str, name: str) -> S3Store:
    options = {**keys(name), "endpoint_url": endpoint}
    return S3Store(BUCKET, PREFIX, budget_seconds=5.0, client_options=options)


def zoo(endpoint: str, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **{key.upper(): value for key, value in keys(name).items()},
        "AWS_ENDPOINT_URL_S3": endpoint, "AWS_REGION": "us-east-1", "ZOO_STORE": f"s3://{BUCKET}/{PREFIX}",
    }  # fmt: skip
    return subprocess.run([*ZOO, *arguments], env={**os.environ, **environment}, capture_output=True, text=True)


def test_a_trainer_a_reader_and_gc_need_no_more_rights_than_documented_and_have_no_others(endpoint: str) -> None:
    request = ["digits8-cnn-s", "--models", "0:2", "--epochs", "2", "--twin-epochs", "1"]
    trained = zoo(endpoint, "trainer", "run", *request, "--ray", "none", "--no-metrics", "--quiet")
    assert trained.returncode == 0, trained.stderr
    admin, trainer, reader, collector = (store_of(endpoint, name) for name in ("admin", "trainer", "reader", "gc"))
    manifest = next(stat.key for stat in admin.list("zoos/") if stat.key.endswith("manifest.json"))
    published = json.loads(admin.get(manifest)[0])["shards"][0]
    shard = next(stat.key for stat in admin.list("objects/") if published["sha256"] in stat.key)

    verified = zoo(endpoint, "reader", "store", "verify", "digits8-cnn-s")
    assert verified.returncode == 0, verified.stderr
    for refused in (
        lambda: reader.put("zoos/x", b""),
        lambda: reader.delete(shard),
        lambda: trainer.delete(shard),
        lambda: trainer.delete(manifest),
    ):
        with pytest.raises(AccessDenied):
            refused()

    orphan = "objects/00/" + "0" * 64 + ".shard"
    admin.put(orphan, b"left")
    collected = zoo(endpoint, "gc", "store", "gc", "--yes")
    assert collected.returncode == 0, collected.stderr
    collector.delete(orphan)
    assert admin.stat(shard) is not None
