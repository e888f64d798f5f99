"""All fuzzed readers: objects of a store, texts of commands, image files, and those of ``outside``."""

import bz2
import csv
import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from tests.fuzz.outside import outside_targets
from tests.fuzz.parquet import changed_headers, rich_table
from tests.fuzz.target import OURS, Target
from tests.fuzz.web import web_targets
from tests.support.parquet_footer import with_size_statistics
from tests.support.synthetic import RUN, description, train
from zooforge.cluster import progress
from zooforge.cluster.spec import RunRequest
from zooforge.storage import keys
from zooforge.storage.formats.compression import Compression, decode_shard, encode_shard
from zooforge.storage.formats.labels import joined_columns, part_columns
from zooforge.storage.formats.manifest import Manifest
from zooforge.storage.formats.record import PartRecord
from zooforge.storage.formats.tables import decode_table, table_values
from zooforge.storage.formats.tensors import decode
from zooforge.storage.keys import manifest_key
from zooforge.storage.ops.verify import verify_zoo
from zooforge.storage.publish.head import create_spec, read_manifest_bytes
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.read.where import rows_where
from zooforge.storage.runs.claims import Claims, read_claims
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.runs.run_files import (
    Control,
    add_usage,
    create_run,
    end_attempt,
    pin_run,
    read_attempts,
    read_control,
    read_pin,
    read_usage,
    start_attempt,
    write_control,
)
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.zoo import Zoo
from zooforge.zoo_jobs.catalogue import in_store
from zooforge.zoo_jobs.catalogue.entries import FOLDER, load_all
from zooforge.zoo_jobs.data.readers import read
from zooforge.zoo_jobs.planning.units import model_slice
from zooforge.zoo_jobs.spec.epochs import EpochSet
from zooforge.zoo_jobs.spec.twins import TwinSpec, twins_of
from zooforge.zoo_jobs.spec.yaml_values import yaml_values
from zooforge.zoo_jobs.spec.zoo import ZooSpec

ZOO = "tiny-zoo"


@cache
def published() -> MemoryStore:
    """A published zoo of eight models and four epochs. Its run has attempts, usage, claims and logs besides parts."""
    store = MemoryStore()
    train(store, range(8), 4, faulty={3: 2})
    create_run(store, RUN, {"numerics_version": 1})
    pin_run(store, RUN, {"engine": {"name": "lanes"}, "commit_every": 1, "unit_models": 256, "data": "ab"})
    write_control(store, RUN, Control("run", "", {"models": [0, 8], "epochs": 4}), None)
    attempt = start_attempt(store, RUN, {"stage": "train", "slots": 2, "machine": "x86_64"})
    end_attempt(store, RUN, attempt, {"state": "finished"})
    add_usage(store, RUN, attempt, {"pod_seconds": 12.5, "dollars": 0.01})
    Claims(store, RUN, attempt).hold(keys.driver_claim(attempt))
    spec = load_all()[0]
    create_spec(store, ZOO, in_store.content(spec))
    create_spec(store, "twins", in_store.content(twins_of(spec)) if spec.sparsify else {})
    vectorize(store, description(num_models=8, num_epochs=4), RUN)
    return store


def objects(part: str) -> dict[str, bytes]:
    store = published()
    return {stat.key: store.get(stat.key)[0] for stat in store.list("") if part in stat.key}


@contextmanager
def replaced(key: str, data: bytes) -> Iterator[MemoryStore]:
    """A copy of the published store in which one object has other bytes."""
    store = published()
    before = store.get(key)[0]
    store.put(key, data)
    try:
        yield store
    finally:
        store.put(key, before)


def numbered(part: str, look: Callable[[MemoryStore], Any]) -> Target:
    """Call ``look`` on a store in which one object is replaced. The first byte of the input chooses the object."""
    stored = sorted(objects(part))

    def read_one(data: bytes) -> None:
        if data:
            with replaced(stored[data[0] % len(stored)], data[1:]) as store:
                look(store)

    seeds = [bytes([number]) + published().get(key)[0] for number, key in enumerate(stored)]
    return Target(seeds, read_one)


def look_at_run(store: MemoryStore) -> None:
    read_pin(store, RUN), read_control(store, RUN), read_usage(store, RUN)
    read_attempts(store, RUN), read_claims(store, RUN)


def look_at_parts(store: MemoryStore) -> None:
    ledger = read_ledger(store, RUN)
    ledger.load_state([0, 1, 2])


def look_at_zoo(store: MemoryStore) -> None:
    for name in (ZOO, "twins"):
        in_store.stored(store, name)
    number, data = read_manifest_bytes(store, ZOO)
    zoo = Zoo(store, Manifest.from_json(data, "manifest.json"), number, None, None)
    zoo.labels()
    states: Any = zoo.dataset("train", "0:3")
    for number in range(len(states)):
        states[number]
    verify_zoo(zoo)


def look_at_manifest(data: bytes) -> None:
    manifest = Manifest.from_json(data, "manifest.json")
    manifest.describe()
    zoo = Zoo(published(), manifest, 1, None, None)
    zoo.weights(epochs="0:2")
    verify_zoo(zoo)


def look_at_table(data: bytes) -> None:
    for columns in (part_columns(), joined_columns()):
        table_values(decode_table(data, "table", columns), columns)


def in_files(format_name: str, names: list[str], contents: list[bytes], hostile: tuple[bytes, ...] = ()) -> Target:
    """Read the image files ``names``, one of them replaced. The first byte of the input chooses the file."""

    def read_files(data: bytes) -> None:
        with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            files = {name: Path(folder) / name for name in names}
            for path, content in zip(files.values(), contents, strict=True):
                path.write_bytes(content)
            if data:
                files[names[data[0] % len(names)]].write_bytes(data[1:])
            read(format_name, files)

    return Target([bytes([number]) + content for number, content in enumerate(contents)], read_files, hostile=hostile)


def image_targets() -> dict[str, Target]:
    random = np.random.default_rng(0)

    def noise(*shape: int) -> Any:
        return random.integers(0, 256, shape, np.uint8)

    def idx(array: Any) -> bytes:
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        return gzip.compress(header + array.tobytes())

    def tar(members: dict[str, bytes]) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return out.getvalue()

    def zipped(members: dict[str, bytes]) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return out.getvalue()

    def jpeg() -> bytes:
        out = io.BytesIO()
        Image.fromarray(noise(64, 64, 3)).save(out, "JPEG")
        return out.getvalue()

    line = "5 " + " ".join(f"{i}:{0.5:.1f}" for i in range(1, 257))
    digits = io.StringIO()
    csv.writer(digits).writerows([[*noise(784).tolist(), digit] for digit in (3, 4)])
    from pickle import dumps

    batch = dumps({b"data": noise(2, 3072), b"labels": [1, 2], b"batch_label": b"x"}, protocol=2)
    prefixes = [f"{split}-{kind}-ubyte.gz" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    stl = {"b/train_X.bin": noise(1, 3, 96, 96).tobytes(), "b/train_y.bin": b"\x01",
           "b/test_X.bin": noise(1, 3, 96, 96).tobytes(), "b/test_y.bin": b"\x02"}  # fmt: skip
    tiny = {
        "t/wnids.txt": b"n01\nn02\n",
        "t/train/n01/images/n01_0.JPEG": jpeg(),
        "t/train/n02/images/n02_0.JPEG": jpeg(),
        "t/val/val_annotations.txt": b"val_0.JPEG\tn02\t0\t0\t1\t1\n",
        "t/val/images/val_0.JPEG": jpeg(),
    }
    eurosat = {"EuroSAT/A/A_1.jpg": jpeg(), "EuroSAT/B/B_1.jpg": jpeg()}
    lines = bz2.compress(f"{line}\n{line}\n".encode())
    # No MATLAB files: the reader of scipy 1.17.1 ends the process (SIGSEGV) on some damaged ones. Only files with the
    # checksums of the registry reach it.
    return {
        "idx": in_files("idx", prefixes, [idx(noise(2, 28, 28)), idx(noise(2)), idx(noise(2, 28, 28)), idx(noise(2))]),
        "libsvm": in_files("libsvm", ["usps.bz2", "usps.t.bz2"], [lines, lines]),
        "cifar": in_files("cifar", ["c.tar.gz"], [tar({"c/data_batch_1": batch, "c/test_batch": batch})]),
        "stl": in_files("stl-binary", ["s.tar.gz"], [tar(stl)], hostile=(b"\0\x1f\x8b\x08",)),
        "tiny-imagenet": in_files("tiny-imagenet-zip", ["tiny-imagenet-200.zip"], [zipped(tiny)]),
        "eurosat": in_files("eurosat-zip", ["EuroSAT.zip"], [zipped(eurosat)]),
        "csv": in_files("mnist5k-csv", ["mnist_5k.csv.gz"], [gzip.compress(digits.getvalue().encode())]),
    }


def text(read_text: Callable[[str], Any], *seeds: str, errors: tuple[type[Exception], ...] = OURS) -> Target:
    return Target([seed.encode() for seed in seeds], lambda data: read_text(data.decode("utf-8", "replace")), errors)


def compressed_shard() -> bytes:
    values = np.random.default_rng(1).standard_normal((2, 30)).astype(np.float32)
    return bytes(encode_shard({f"epoch_{n:03d}": values + np.float32(n * 1e-4) for n in range(10)}, Compression()))


def record_targets() -> dict[str, Target]:
    records = objects(f"{RUN}/parts/")
    one = keys.parse_record_key(min(records))
    assert one is not None
    whole = json.loads(records[min(records)])
    tables = [*objects(".parquet").values(), rich_table()]
    typeless = tuple(json.dumps({**whole, name: [[[]], [[]]]}).encode() for name in ("epochs", "kept", "members"))
    return {
        "record": Target(list(records.values()), lambda data: PartRecord.from_json(data, one), hostile=typeless),
        "parts": numbered(f"{RUN}/parts/", look_at_parts),
        "run": numbered(f"runs/{RUN}/", look_at_run),
        "zoo": numbered("zoos/", look_at_zoo),
        "objects": numbered("objects/", look_at_zoo),
        "manifest": Target([published().get(manifest_key(ZOO, 1))[0]], look_at_manifest),
        "safetensors": Target(list(objects(".safetensors").values()), lambda data: decode(data, "tensors")),
        "compressed": Target([compressed_shard()], lambda data: decode_shard(data, "tensors")),
        "parquet": Target(
            tables,
            look_at_table,
            hostile=(with_size_statistics(tables[0], [8, 0, 0]),),  # this input once ended the process
            make=lambda random: changed_headers(tables, random),
        ),
    }


def read_spec(text: str) -> None:
    value = yaml_values(text, "spec.yaml")
    if isinstance(value, dict):
        ZooSpec.from_json(value, "spec.yaml")


def text_targets() -> dict[str, Target]:
    table = decode_table(max(objects(".parquet").values(), key=len), "table")
    twins = [json.dumps(twins_of(spec).to_json()) for spec in load_all() if spec.sparsify][:2]
    catalogue = [path.read_text() for path in sorted(FOLDER.glob("*.yaml"))]
    page = (
        '# HELP x y\nzooforge_run_state{zoo="a",state="live"} 1\nzooforge_models{zoo="a",state="done"} 3\n'
        'zooforge_eta_seconds{zoo="a",quantile="0.1"} 5.5e3\nzooforge_cost_dollars_total{zoo="a",outcome="wasted"} 0\n'
    )
    asked = RunRequest("mnist-cnn-s", RUN, "0:32", 6, max_dollars=1.5).to_json()
    return {
        "spec": text(read_spec, *catalogue),
        "twins": text(lambda given: TwinSpec.from_json(json.loads(given), "spec"), *twins, errors=(*OURS, ValueError)),
        "where": text(
            lambda given: rows_where(given, table),
            "epoch > 2 and model in [1, 2] or not split == 'train'", "0 < epoch <= 3", "faulty_reason is None",
            "(model + 3) * 2 / epoch - 1 > 1e3",
        ),
        "epochs": text(
            lambda given: EpochSet.parse(json.loads(given)), "[0, 3]", '["0:3", 7]', '"all"', errors=(*OURS, ValueError)
        ),
        "models": text(lambda given: model_slice(given, 100, "zoo"), "0:32", ":5", "7:"),
        "metrics-page": text(progress.parse, page),
        "run-request": text(RunRequest.from_json, asked),
        "record-key": text(keys.parse_record_key, *objects(f"{RUN}/parts/")),
    }  # fmt: skip


@cache
def targets() -> dict[str, Target]:
    """All targets of this module, by name."""
    return {**outside_targets(), **web_targets(), **record_targets(), **text_targets(), **image_targets()}
