"""docs/format.md says what is: its reader reads, its tables are the code's, and old files read for ever."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zooforge
from storage.canonical import sha256_hex
from storage.labels import joined_columns
from storage.manifest import SHARD_SHAPES, Manifest, Parent
from storage.memory import MemoryStore
from storage.object_store import ObjectStore
from storage.publish import vectorize
from storage.verify import verify_zoo

from .synthetic import LAYOUT, RUN, copy_zoo, description, mask, noise, train, weights

ROOT = Path(__file__).parent.parent.parent
FORMAT = (ROOT / "docs/format.md").read_text()
GOLDEN = ROOT / "tests/golden/storage"


def documented_reader() -> Any:
    code = re.findall(r"```python\n(.*?)```", FORMAT, re.DOTALL)[-1]
    assert sum(1 for line in code.splitlines() if line.strip()) <= 62
    names: dict[str, Any] = {}
    exec(compile(code, "docs/format.md", "exec"), names)
    return names["Reader"]


def golden_zoo(store: ObjectStore) -> None:
    """What lies under tests/golden/storage/v1 was written by this, once; never write it again."""
    train(store, range(6), 3, twin=True, faulty={4: 2}, kept=[0, 1, 3])
    vectorize(store, description("golden-vd", parent=Parent("golden", "ab" * 16, 3)), RUN)


def test_the_documented_reader_reads_what_we_write(local: ObjectStore) -> None:
    train(local, range(40), 3)
    vectorize(local, description(), RUN)
    reader = documented_reader()(local.url.removeprefix("file://"), "tiny-zoo")
    models, values = reader.weights(2)
    assert models == list(range(40))
    np.testing.assert_array_equal(values, np.stack([weights(m, 2) for m in models]))
    named = reader.tensors(values[7])
    for name, value in LAYOUT.unflatten(weights(7, 2)).items():
        np.testing.assert_array_equal(named[name], value)


def test_the_documented_reader_reads_shards_of_one_state(local: ObjectStore) -> None:
    train(local, range(3), 1)
    vectorize(local, description(architecture="resnet18"), RUN)
    models, values = documented_reader()(local.url.removeprefix("file://"), "tiny-zoo").weights(1)
    np.testing.assert_array_equal(values, np.stack([weights(m, 1) for m in models]))


def test_the_documented_reader_refuses_a_flipped_byte(local: ObjectStore) -> None:
    train(local, range(3), 1)
    manifest = vectorize(local, description(), RUN).manifest
    key = manifest.shards[0].ref.key
    data = bytearray(local.get(key)[0])
    data[-1] ^= 1
    local.put(key, data)
    with pytest.raises(ValueError, match="damaged"):
        documented_reader()(local.url.removeprefix("file://"), "tiny-zoo").weights(1)


def test_the_documented_columns_are_the_codes() -> None:
    listed = re.findall(r"^\| `(\w+)` \| (\w+) \| (yes|no) \|", FORMAT.split("<!-- columns")[1], re.MULTILINE)
    assert listed[: len(joined_columns(True))] == [
        (c.name, c.type, "yes" if c.nullable else "no") for c in joined_columns(True)
    ]


def test_the_documented_shards_are_the_codes() -> None:
    listed = re.findall(r"^\| ([a-z0-9-]+) \| (\d+) \| (\d+) \|$", FORMAT, re.MULTILINE)
    assert {name: (int(m), int(e)) for name, m, e in listed} == SHARD_SHAPES


def test_the_documented_manifest_fields_are_the_codes(memory: ObjectStore) -> None:
    import json

    train(memory, range(3), 1)
    value = json.loads(vectorize(memory, description(), RUN).manifest.to_json())
    section = FORMAT.split("## Manifest")[1].split("## Splits")[0]
    for name in value:
        assert f"`{name}`" in section, name


def test_files_of_version_1_read_for_ever() -> None:
    zoo = zooforge.open_zoo(f"{GOLDEN / 'v1'}/zoos/golden-vd")
    assert verify_zoo(zoo).ok
    assert zoo.epochs == [0, 1, 3] and zoo.models == list(range(6))
    raw = zoo.weights(epochs=[1, 3], masked=False)
    for values, model, epoch in zip(raw.values, raw.models.tolist(), raw.epochs.tolist(), strict=True):
        np.testing.assert_array_equal(values, weights(model, epoch, faulty_from=2 if model == 4 else None))
    np.testing.assert_array_equal(zoo.field("log_sigma2", epochs=3, models=2)[0][0], noise(2, 3))
    np.testing.assert_array_equal(zoo.field("mask", epochs=3, models=2)[0][0], mask(2, 3))
    assert zoo.labels(models=4, epochs=2, columns=["test_acc", "faulty_reason"]).to_pylist() == [
        {"test_acc": None, "faulty_reason": "nan"}
    ]


def test_this_version_still_writes_the_tensors_of_version_1() -> None:
    store = MemoryStore()
    golden_zoo(store)
    manifest = Manifest.from_json(store.get("zoos/golden-vd/versions/0001/manifest.json")[0], "now")
    path = GOLDEN / "v1/zoos/golden-vd/versions/0001/manifest.json"
    golden = Manifest.from_json(path.read_bytes(), "golden")
    assert [s.ref for s in manifest.shards] == [s.ref for s in golden.shards]
    assert manifest.labels.values_sha256 == golden.labels.values_sha256
    assert sha256_hex(store.get(golden.shards[0].ref.key)[0]) == golden.shards[0].ref.sha256


def write_golden(folder: Path) -> None:
    """For the first release of a format version: ``python -m tests.storage.test_format``."""
    from storage.local import LocalStore

    store = MemoryStore()
    golden_zoo(store)
    copy_zoo(store, "golden-vd", LocalStore(folder))
    for name in (".tmp", ".locks"):
        for path in (folder / name).glob("*"):
            path.unlink()
        (folder / name).rmdir()


if __name__ == "__main__":
    write_golden(GOLDEN / "v1")
