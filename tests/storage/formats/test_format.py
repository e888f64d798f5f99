"""docs/format.md is correct: its reader works, its tables agree with the code, and old files stay readable."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zooforge
from tests.support.paths import ROOT
from tests.support.synthetic import LAYOUT, RUN, copy_zoo, description, mask, noise, train, weights
from zooforge.storage.canonical import canonical_json, sha256_hex
from zooforge.storage.errors import FormatError
from zooforge.storage.formats.labels import (
    ALL_COLUMNS,
    REGRESSION_COLUMNS,
    REGRESSION_DERIVED,
    Column,
    joined_columns,
    model_columns,
)
from zooforge.storage.formats.manifest import Manifest, Parent
from zooforge.storage.interchange.raw.architectures import SHARD_SHAPES
from zooforge.storage.ops.verify import verify_zoo
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.protocol import ObjectStore

FORMAT = (ROOT / "docs/format.md").read_text()
GOLDEN = ROOT / "tests/golden/storage"


def documented_reader(name: str = "Reader") -> Any:
    plain, compressed = re.findall(r"```python\n(.*?)```", FORMAT, re.DOTALL)
    assert sum(1 for line in plain.splitlines() if line.strip()) <= 62
    names: dict[str, Any] = {}
    exec(compile(plain, "docs/format.md", "exec"), names)
    exec(compile(compressed, "docs/format.md", "exec"), names)
    return names[name]


def golden_zoo(store: ObjectStore) -> None:
    """This wrote the files in tests/golden/storage/v1 and v2, once. Never write them again."""
    train(store, range(6), 3, twin=True, faulty={4: 2}, kept=[0, 1, 3], norms=False)
    vectorize(store, description("golden-vd", parent=Parent("golden", "ab" * 16, 3)), RUN)


def golden_labelled(store: ObjectStore) -> None:
    """This wrote the files in tests/golden/storage/v3, once. Never write them again."""
    train(store, range(6), 3, twin=True, faulty={4: 2}, kept=[0, 1, 3], classes=True)
    vectorize(store, description("golden-vd", parent=Parent("golden", "ab" * 16, 3)), RUN)


def golden_compressed(store: ObjectStore) -> None:
    """This wrote the files in tests/golden/storage/v2-compressed, once. Never write them again."""
    train(store, range(3), 9, twin=True, faulty={1: 2}, kept=[0, 1, 3, 8, 9], norms=False)
    described = description("golden-vd", architecture="resnet18", parent=Parent("golden", "ab" * 16, 9))
    vectorize(store, described, RUN, compression="delta-zstd")


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


def test_the_documented_readers_tell_compressed_zoos_from_others(local: ObjectStore) -> None:
    train(local, range(3), 10, faulty={1: 4})
    vectorize(local, description(architecture="resnet18"), RUN, compression="delta-zstd")
    folder = local.url.removeprefix("file://")
    models, values = documented_reader("CompressedReader")(folder, "tiny-zoo").weights(10)
    expected = np.stack([weights(m, 10, faulty_from=4 if m == 1 else None) for m in models])
    assert values.tobytes() == expected.tobytes()
    with pytest.raises(ValueError, match="compressed"):
        documented_reader()(folder, "tiny-zoo")


def test_the_documented_reader_refuses_a_flipped_byte(local: ObjectStore) -> None:
    train(local, range(3), 1)
    manifest = vectorize(local, description(), RUN).manifest
    key = manifest.shards[0].ref.key
    data = bytearray(local.get(key)[0])
    data[-1] ^= 1
    local.put(key, data)
    with pytest.raises(ValueError, match="damaged"):
        documented_reader()(local.url.removeprefix("file://"), "tiny-zoo").weights(1)


def test_the_documented_columns_are_those_of_the_code() -> None:
    listed = re.findall(r"^\| `(\w+)` \| (\w+(?:\[\])?) \| (yes|no) \|", FORMAT.split("<!-- columns")[1], re.MULTILINE)
    own = [*(c.name for c in (*REGRESSION_COLUMNS, *REGRESSION_DERIVED[1:])), "image"]
    columns = [*joined_columns(ALL_COLUMNS.keys() - set(own)), *(ALL_COLUMNS[name] for name in own)]
    assert listed[: len(columns)] == [(c.name, c.type, "yes" if c.nullable else "no") for c in columns]


def test_the_documented_shards_are_those_of_the_code() -> None:
    listed = re.findall(r"^\| ([a-z0-9-]+) \| (\d+) \| (\d+) \|$", FORMAT, re.MULTILINE)
    assert {name: (int(m), int(e)) for name, m, e in listed} == SHARD_SHAPES


def test_the_documented_manifest_fields_are_those_of_the_code(memory: ObjectStore) -> None:
    train(memory, range(3), 1)
    value = json.loads(vectorize(memory, description(), RUN).manifest.to_json())
    section = FORMAT.split("## Manifest")[1].split("## Splits")[0]
    for name in value:
        assert f"`{name}`" in section, name


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_files_of_every_version_stay_readable(version: str) -> None:
    zoo = zooforge.open_zoo(f"{GOLDEN / version}/zoos/golden-vd")
    assert verify_zoo(zoo).ok and (zoo.manifest.blocks is None) == (version == "v1")
    one = zoo.state_dict(2, 3, masked=False)  # one state alone, then all states
    np.testing.assert_array_equal(np.concatenate([v.reshape(-1) for v in one.values()])[: LAYOUT.size], weights(2, 3))
    assert zoo.epochs == [0, 1, 3] and zoo.models == list(range(6))
    raw = zoo.weights(epochs=[1, 3], masked=False)
    for values, model, epoch in zip(raw.values, raw.models.tolist(), raw.epochs.tolist(), strict=True):
        np.testing.assert_array_equal(values, weights(model, epoch, faulty_from=2 if model == 4 else None))
    np.testing.assert_array_equal(zoo.field("log_sigma2", epochs=3, models=2)[0][0], noise(2, 3))
    np.testing.assert_array_equal(zoo.field("mask", epochs=3, models=2)[0][0], mask(2, 3))
    assert zoo.labels(models=4, epochs=2, columns=["test_acc", "faulty_reason"]).to_pylist() == [
        {"test_acc": None, "faulty_reason": "nan"}
    ]


def test_compressed_files_of_version_2_stay_readable() -> None:
    zoo = zooforge.open_zoo(f"{GOLDEN / 'v2-compressed'}/zoos/golden-vd")
    assert zoo.manifest.compression is not None and verify_zoo(zoo).ok
    assert zoo.epochs == [0, 1, 3, 8, 9] and zoo.models == list(range(3))
    raw = zoo.weights(masked=False)
    for values, model, epoch in zip(raw.values, raw.models.tolist(), raw.epochs.tolist(), strict=True):
        expected = weights(model, epoch, faulty_from=2 if model == 1 else None)
        assert values.tobytes() == expected.tobytes()
    np.testing.assert_array_equal(zoo.field("log_sigma2", epochs=9, models=2)[0][0], noise(2, 9))
    np.testing.assert_array_equal(zoo.field("mask", epochs=9, models=2)[0][0], mask(2, 9))


def test_this_version_still_packs_the_values_of_compressed_files() -> None:
    store = MemoryStore()
    golden_compressed(store)
    path = "zoos/golden-vd/versions/0001/manifest.json"
    now = Manifest.from_json(store.get(path)[0], "now")
    golden = Manifest.from_json((GOLDEN / "v2-compressed" / path).read_bytes(), "golden")

    def values(manifest: Manifest) -> list[Any]:
        return [(t.base, t.values_sha256) for shard in manifest.shards for t in shard.tensors.values()]

    assert values(now) == values(golden)  # the bytes of the frames depend on the release of zstd


def test_this_version_still_writes_the_tensors_of_version_1() -> None:
    store = MemoryStore()
    golden_zoo(store)
    manifest = Manifest.from_json(store.get("zoos/golden-vd/versions/0001/manifest.json")[0], "now")
    path = GOLDEN / "v1/zoos/golden-vd/versions/0001/manifest.json"
    golden = Manifest.from_json(path.read_bytes(), "golden")
    assert [s.ref for s in manifest.shards] == [s.ref for s in golden.shards]
    assert manifest.labels.values_sha256 == golden.labels.values_sha256
    assert sha256_hex(store.get(golden.shards[0].ref.key)[0]) == golden.shards[0].ref.sha256


def test_this_version_still_writes_the_bytes_of_version_3() -> None:
    store = MemoryStore()
    golden_labelled(store)
    path = "zoos/golden-vd/versions/0001/manifest.json"
    assert store.get(path)[0] == (GOLDEN / "v3" / path).read_bytes()


def test_a_run_with_labels_of_version_1_has_the_columns_of_its_time() -> None:
    store = MemoryStore()
    golden_zoo(store)
    now = Manifest.from_json(store.get("zoos/golden-vd/versions/0001/manifest.json")[0], "now")
    assert now.version == 3 and now.label_columns == joined_columns(["kl"])


@pytest.mark.parametrize("classes", [False, True])
def test_labels_of_version_2_are_listed_and_read_back(local: ObjectStore, classes: bool) -> None:
    train(local, range(4), 2, faulty={1: 2}, classes=classes)
    vectorize(local, description(), RUN)
    zoo = zooforge.open_zoo(f"{local.url}/zoos/tiny-zoo")
    norms = zoo.labels(models=2, epochs=1, columns=["weight_norm", "max_abs_weight"]).to_pylist()[0]
    vector = weights(2, 1).astype(np.float64)
    assert norms["max_abs_weight"] == np.abs(vector).max()
    assert norms["weight_norm"] == pytest.approx(np.linalg.norm(vector), rel=1e-14)
    assert zoo.labels(models=1, epochs=2, columns=["weight_norm"])["weight_norm"].to_pylist() == [None]
    assert ("test_class_correct" in zoo.labels().column_names) == classes
    assert verify_zoo(zoo).ok
    if classes:
        table = zoo.labels(epochs=2, columns=["test_class_correct", "test_class_predicted", "train_class_correct"])
        assert table["test_class_correct"].to_pylist() == [[3, 3, 0], None, [4, 4, 0], [4, 5, 0]]
        assert table["test_class_predicted"].to_pylist()[0] == [40, 35, 25]
        assert table["train_class_correct"].to_pylist() == [None] * 4


def test_a_column_that_this_version_does_not_know_is_read(local: ObjectStore) -> None:
    known = [*joined_columns(), Column("weather", "string", "derived", True, "")]
    listed = {"labels": [c.to_json() for c in known], "models": [c.to_json() for c in model_columns()]}
    train(local, range(2), 1, norms=False)
    value = json.loads(vectorize(local, description(), RUN).manifest.to_json())
    manifest = Manifest.from_json(canonical_json({**value, "columns": listed}), "manifest")
    assert manifest.label_columns[-1].name == "weather"
    for wrong in (listed["labels"][1:], [*listed["labels"], ["weather", "text", True]], [["model", "int64", False]]):
        with pytest.raises(FormatError, match="no manifest"):
            Manifest.from_json(canonical_json({**value, "columns": {**listed, "labels": wrong}}), "manifest")


def write_golden(folder: Path, write: Callable[[ObjectStore], None]) -> None:
    """For the first release of a format version: ``python -m tests.storage.formats.test_format``."""
    from zooforge.storage.stores.local import LocalStore

    store = MemoryStore()
    write(store)
    copy_zoo(store, "golden-vd", LocalStore(folder))
    for name in (".tmp", ".locks"):
        for path in (folder / name).glob("*"):
            path.unlink()
        (folder / name).rmdir()


if __name__ == "__main__":
    for name, write in (("v2-compressed", golden_compressed), ("v3", golden_labelled)):
        if not (GOLDEN / name).exists():
            write_golden(GOLDEN / name, write)
