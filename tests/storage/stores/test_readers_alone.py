"""Readers need neither boto3 nor safetensors nor POSIX modules; processes of their own block their import."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from zooforge.storage.stores.open import open_store

BLOCKED = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(name)

import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {blocked!r} else find_spec(name, *rest)
sys.meta_path.insert(0, Blocked())
for name in {blocked!r}:
    sys.modules.pop(name, None)
sys.path.insert(0, {root!r})
"""
POSIX = ["fcntl", "termios", "pwd", "grp", "resource", "posix_ipc"]


def run(code: str, blocked: list[str], *arguments: str) -> str:
    program = BLOCKED.format(blocked=blocked, root=str(ROOT)) + code
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_local_zoo_is_read_without_posix_modules_boto3_and_safetensors() -> None:
    code = """
import zooforge
zoo = zooforge.open_zoo(sys.argv[1])
print(len(zoo.weights(masked=False)), zoo.labels().num_rows)
import zooforge.storage.cli, zooforge.storage.stores.zip, zooforge.storage.stores.web, zooforge.storage.stores.hub
"""
    address = str(ROOT / "tests/golden/storage/v1/zoos/golden-vd")
    assert run(code, [*POSIX, "boto3", "botocore", "safetensors"], address).split() == ["18", "24"]


READ = """
import json
from zooforge.storage.errors import ObjectNotFound, StoreRefused
from zooforge.storage.stores.open import open_store
store = open_store(sys.argv[1])
result = {"whole": store.get("a/b")[0].decode(), "range": store.get("a/b", (2, 4))[0].decode(),
          "after": store.get("a/b", (90, 95))[0].decode(), "long": store.get("a/b", (8, 99))[0].decode(),
          "size": store.stat("a/b").size, "etag": store.get("a/b")[1] == store.stat("a/b").etag,
          "none": store.stat("no/such"), "keys": sorted(stat.key for stat in store.list("a/")),
          "part": [stat.key for stat in store.list("a/b")]}
for name, call in (("missing", lambda: store.get("no/such")), ("put", lambda: store.put("x", b"")),
                   ("delete", lambda: store.delete("a/b"))):
    try:
        call()
    except (ObjectNotFound, StoreRefused) as error:
        result[name] = str(error)
print(json.dumps(result))
"""


def test_s3_is_read_by_obstore_alone(s3_store_url: str) -> None:
    pytest.importorskip("obstore", reason="obstore is not installed")
    store = open_store(s3_store_url)
    store.put("a/b", b"0123456789")
    store.put("a/c", b"")
    result = json.loads(run(READ, ["boto3", "botocore", "fcntl"], s3_store_url))
    assert "no object" in result.pop("missing")
    assert "pip install 'zooforge[s3]'" in result.pop("put") and "boto3 is needed" in result.pop("delete")
    assert result == {
        "whole": "0123456789", "range": "23", "after": "", "long": "89", "size": 10, "etag": True, "none": None,
        "keys": ["a/b", "a/c"], "part": ["a/b"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "WRONGSECRET"}, ["refused", "AWS_SECRET_ACCESS_KEY"]),
        ({"AWS_PROFILE": "lab"}, ["AWS_PROFILE", "zooforge[s3]"]),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, ["no answer at http://127.0.0.1:1"]),
        ({"AWS_ENDPOINT_URL": "127.0.0.1:1"}, ["has no scheme"]),
        ({"bucket": "s3://nowhere/x"}, ["there is no bucket 'nowhere'"]),
    ],
)
def test_an_error_of_obstore_is_one_line_without_secrets(
    s3_store_url: str, changes: dict[str, str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("obstore", reason="obstore is not installed")
    url = changes.get("bucket", s3_store_url)
    for name, value in changes.items():
        if name != "bucket":
            monkeypatch.setenv(name, value)
    code = """
from zooforge.storage.errors import StoreAccessError, StoreURLError
from zooforge.storage.stores.s3.reader import S3Reader
bucket, _, prefix = sys.argv[1].removeprefix("s3://").partition("/")
try:
    S3Reader(bucket, prefix, budget_seconds=0).get("key")
except (StoreAccessError, StoreURLError) as error:
    print(error)
"""
    line = run(code, ["boto3", "botocore"], url)
    assert line.count("\n") == 1 and "WRONGSECRET" not in line
    for word in words:
        assert word in line


def test_no_dependency_of_readers_bounds_python_or_needs_boto3() -> None:
    import tomllib

    project = tomllib.loads(Path(ROOT / "pyproject.toml").read_text())["project"]
    names = {line.partition(">")[0].partition("=")[0] for line in project["dependencies"]}
    assert names == {"click", "numpy", "obstore", "pyarrow", "urllib3"}
    assert "<" not in project["requires-python"] and project["optional-dependencies"]["s3"] == ["boto3>=1.40"]
