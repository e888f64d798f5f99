"""Measures the size of compressed shards and the cost of compression, on a trajectory that this script trains first.

    python benchmarks/compression.py [--architecture resnet18] [--models 1] [--epochs 7] [--images 1000]

Real images (mnist5k, enlarged to 32 x 32) and the grid of the catalogue's CIFAR-10 zoo with a constant learning rate.
Sizes are shares of the values' own bytes, over epochs 1 to the last; speeds are of the values, one thread, CPU seconds.
Last result: docs/performance.md, "Compressed shards".
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from zooforge.storage.formats.compression import pack, unpack
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.runs.commit import PartData, commit_part
from zooforge.storage.stores.open import open_store
from zooforge.storage.zoo import Zoo, open_zoo
from zooforge.zoo_jobs.catalogue.entries import load
from zooforge.zoo_jobs.data.prepare import load as load_data
from zooforge.zoo_jobs.data.sources import default_cache
from zooforge.zoo_jobs.engines.choose import make_engine
from zooforge.zoo_jobs.engines.growth import EpochResult, Growth
from zooforge.zoo_jobs.publishing.describe import describe
from zooforge.zoo_jobs.running.inputs import Run
from zooforge.zoo_jobs.spec.overrides import with_overrides
from zooforge.zoo_jobs.spec.zoo import ZooSpec

ATTEMPT = "20260101T000000Z-0001"
MB = 1e6


def spec_of(architecture: str, images: int) -> ZooSpec:
    settings = [
        "dataset=mnist5k", "preprocessing.resize=32", "preprocessing.mean=[0.1307]", "preprocessing.std=[0.3081]",
        f"split.train={images}", "split.val=100", "split.test=100", "batch_size=10", "schedule=null", "augment=null",
    ]  # fmt: skip
    return with_overrides(load(f"cifar10-{architecture}-seed"), settings, name=f"bench-{architecture}")


def trained(run: Run, models: int, epochs: int) -> list[EpochResult]:
    torch.set_num_threads(1)
    members = tuple(range(models))
    program = run.program(run.rows[0].family)
    engine = make_engine("sequential" if run.zoo.root.architecture == "resnet18" else "lanes")
    data = load_data(run.zoo.root, default_cache())
    state = run.first_state(members, open_store(f"memory://{run.name}"))
    growth = Growth(engine, program, run.hyperparameters(members), state, data)
    results = []
    for epoch in range(epochs + 1):
        begun = time.perf_counter()
        results.append(growth.step(epoch, clean_train=False))
        correct = np.mean(results[-1].labels["test_correct"])
        print(f"  epoch {epoch}: {correct:.0f} of 100 test images, {time.perf_counter() - begun:.0f} s", flush=True)
    growth.close()
    return results


def words(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).reshape(-1).view("<u4")


def zstd(data: object, level: int = 3) -> bytes:
    return bytes(pyarrow.Codec("zstd", compression_level=level).compress(data, asbytes=True))


def byte_planes(integers: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(integers.view(np.uint8).reshape(-1, 4).T)


def bit_planes(integers: np.ndarray) -> np.ndarray:
    """The bits of all integers as bitshuffle orders them, all lowest bits first; after Hacker's Delight, 7-3."""
    planes = np.empty((32, -(-len(integers) // 8)), np.uint8)
    for start in range(0, len(integers), 2**15):
        octets = integers[start : start + 2**15].view(np.uint8)
        octets = np.pad(octets, (0, -len(octets) % 32)).reshape(-1, 8, 4)
        turned = np.array(octets.transpose(2, 0, 1), order="C").view("<u8")[..., 0]
        for shift, chosen in ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0)):
            swapped = (turned ^ (turned >> np.uint64(shift))) & np.uint64(chosen)
            turned ^= swapped ^ (swapped << np.uint64(shift))
        rows = turned[..., None].view(np.uint8)
        planes[:, start // 8 : start // 8 + rows.shape[1]] = rows.transpose(0, 2, 1).reshape(32, -1)
    return planes


def difference(values: np.ndarray, base: np.ndarray) -> np.ndarray:
    difference: np.ndarray = words(values) - words(base)
    return np.asarray((difference << np.uint32(1)) ^ (np.uint32(0) - (difference >> np.uint32(31))))


def zstd_planes(values: np.ndarray, base: np.ndarray, level: int) -> bytes:
    return zstd(bit_planes(difference(values, base)), level)


WAYS: dict[str, Callable[[np.ndarray, np.ndarray], bytes]] = {
    "zstd": lambda v, b: zstd(words(v)),
    "bits": lambda v, b: zstd(bit_planes(words(v))),
    "bytes (a key epoch)": lambda v, b: pack(v, None),
    "XOR with the epoch before, bits": lambda v, b: zstd(bit_planes(words(v) ^ words(b))),
    "XOR with the epoch before, bytes": lambda v, b: zstd(byte_planes(words(v) ^ words(b))),
    **{f"difference, bits, level {n}": partial(zstd_planes, level=n) for n in (1, 3, 5)},
    **{f"difference, bytes, level {n}": partial(pack, level=n) for n in (1, 3, 5, 9)},
}


def compare(weights: list[np.ndarray]) -> None:
    for name, way in WAYS.items():
        sizes, seconds = [], []
        for before, values in itertools.pairwise(weights):
            begun = time.process_time()
            sizes.append(len(way(values, before)) / values.nbytes)
            seconds.append(time.process_time() - begun)
        speed = weights[0].nbytes / statistics.median(seconds) / MB
        print(f"  {name}: {statistics.mean(sizes):.3f} ({min(sizes):.3f} to {max(sizes):.3f}), {speed:.0f} MB/s")
    before, values = weights[-2:]
    packed = pack(values, before)
    seconds = []
    for _ in range(3):
        begun = time.process_time()
        unpacked = unpack(packed, values.dtype, values.shape, before, "x")
        seconds.append(time.process_time() - begun)
    assert unpacked.tobytes() == values.tobytes()
    print(f"  unpacked: {values.nbytes / statistics.median(seconds) / MB:.0f} MB/s")


def publish(run: Run, results: list[EpochResult], folder: Path) -> None:
    models = len(results[0].fields[""])
    store = open_store(str(folder))
    members = tuple(range(models))
    for result in results:
        none = np.full(models, -1)
        labels = {name: result.labels[name] for name in ("test_loss", "test_correct", "test_count")}
        labels |= {"model": np.arange(models), "epoch": np.full(models, result.epoch)}
        state = {"weights": result.fields[""], "step": np.zeros(models, np.int64)}
        state |= {"faulty_epoch": none.astype(np.int32), "faulty_reason": none.astype(np.int8)}
        fields = {name: {result.epoch: values} for name, values in result.fields.items()}
        epochs = range(result.epoch, result.epoch + 1)
        part = PartData(0, members, result.epoch, epochs, fields, labels, state, {"engine": "none"})
        commit_part(store, run.id, part, ATTEMPT)
    described = replace(describe(run.zoo), num_models=models)
    for name in ("none", "delta-zstd"):
        begun = time.process_time()
        version = vectorize(store, described, run.id, compression=name)
        seconds = time.process_time() - begun
        size = sum(shard.ref.bytes for shard in version.manifest.shards)
        print(f"  {name}: {len(version.manifest.shards)} shards, {size / MB:.1f} MB, sealed in {seconds:.1f} s of CPU")
        address = f"{folder}/zoos/{run.name}"
        for what, epoch in (("key epoch", 0), ("last of a chain", 7), ("all", None)):
            if epoch is None or epoch < len(results):
                taken = statistics.median(read(open_zoo(address), epoch) for _ in range(3))
                print(f"    {what}: read in {taken * 1e3:.0f} ms of CPU")


def read(zoo: Zoo, epochs: int | None) -> float:
    begun = time.process_time()
    zoo.weights(epochs=epochs)
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="resnet18", choices=("resnet18", "cnn-l"))
    parser.add_argument("--models", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    run = Run(spec_of(options.architecture, options.images))
    print(f"{options.models} {options.architecture}, {options.images // 10} steps an epoch")
    results = trained(run, options.models, options.epochs)
    compare([result.fields[""] for result in results])
    with tempfile.TemporaryDirectory() as folder:
        publish(run, results, Path(folder))


if __name__ == "__main__":
    main()
