"""Writing and reading a zoo against the reference's way: one torch.save per state.

    python benchmarks/storage_formats.py [--models 1000] [--epochs 50] [--s3]

Ratios of wall times and of CPU seconds of this process, interleaved with the reference's way (the machine may be
shared), medians of the pairs. The reference's way is a file per state in a directory, or an object per state in S3
through the same client; its training writes a second one, of the optimizer's state, next to each: commits are set
against both. A commit holds more than that: labels, digests of every object and model, all of it synced to disk;
torch.save syncs nothing. Last result: docs/performance.md, "Storage".
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from zooforge.storage.formats.layout import Layout
from zooforge.storage.formats.tensors import tensor_name
from zooforge.storage.publish.description import ZooDescription
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.publish.shards import write_shard
from zooforge.storage.runs.commit import PartData, commit_part
from zooforge.storage.stores import seaweedfs
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import Zoo, open_zoo

LAYOUT = Layout.of(
    [("conv1.weight", (8, 1, 5, 5)), ("conv1.bias", (8,)), ("conv2.weight", (6, 8, 5, 5)), ("conv2.bias", (6,)),
     ("conv3.weight", (4, 6, 2, 2)), ("conv3.bias", (4,)), ("linear1.weight", (20, 36)), ("linear1.bias", (20,)),
     ("linear2.weight", (10, 20)), ("linear2.bias", (10,))]
)  # fmt: skip
NAMES = {e.name: f"module_list.{n}.{e.name.rpartition('.')[2]}" for e, n in
         zip(LAYOUT.entries, [0, 0, 3, 3, 6, 6, 9, 9, 11, 11], strict=True)}  # fmt: skip
RUN = "be" * 16
ATTEMPT = "20260101T000000Z-0001"
UNIT = 256
MiB = 2**20
RANDOM = np.random.default_rng(1)

Taken = tuple[float, float]  # CPU seconds, wall seconds


def take(run: Callable[[], object]) -> Taken:
    clock, cpu = time.perf_counter(), time.process_time()
    run()
    return time.process_time() - cpu, time.perf_counter() - clock


class Reference:
    """One torch.save per state into ``store``, or into a plain directory."""

    def __init__(self, folder: Path, store: ObjectStore | None) -> None:
        self._folder, self._store = folder, store
        self.local = store is None
        vector = np.random.default_rng(1).standard_normal(LAYOUT.size, np.float32)
        self._state = {NAMES[n]: torch.from_numpy(np.array(v)) for n, v in LAYOUT.unflatten(vector).items()}
        parameters = [torch.nn.Parameter(value.clone()) for value in self._state.values()]
        adam = torch.optim.Adam(parameters)
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        adam.step()
        self._optimizer = adam.state_dict()
        folder.mkdir()

    def save(self, count: int, optimizer: bool = False) -> None:
        """Write ``count`` states; with ``optimizer`` a second file next to each, as the reference's training does."""
        for number in range(count):
            self._write(self._state, f"{number}.pt")
            if optimizer:
                self._write(self._optimizer, f"{number}.optimizer")

    def _write(self, value: object, name: str) -> None:
        if self._store is None:
            torch.save(value, self._folder / name)
        else:
            buffer = io.BytesIO()
            torch.save(value, buffer)
            self._store.put(f"reference/{name}", buffer.getvalue())

    def load(self, count: int) -> None:
        for number in range(count):
            if self._store is None:
                torch.load(self._folder / f"{number}.pt")
            else:
                torch.load(io.BytesIO(self._store.get(f"reference/{number}.pt")[0]))


class Pairs:
    """Ours and the reference's in turns."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.ours: list[Taken] = []
        self.ratios: list[Taken] = []

    def add(self, ours: Taken, reference: Taken, factor: float) -> None:
        """``reference`` was measured for a sample, ``factor`` times less than ours did."""
        self.ours.append(ours)
        self.ratios.append((reference[0] * factor / ours[0], reference[1] * factor / ours[1]))

    def __str__(self) -> str:
        cpu, clock = (statistics.median(r[i] for r in self.ratios) for i in (0, 1))
        own = [statistics.median(o[i] for o in self.ours) for i in (0, 1)]
        unit, scale = ("s", 1.0) if own[1] >= 1 else ("ms", 1e3)
        return (
            f"  {self.what}: {clock:.1f} x in wall time, {own[1] * scale:.3g} {unit}; {cpu:.1f} x of CPU, "
            f"{own[0] * scale:.3g} {unit}"
        )


def part_of(members: tuple[int, ...], epochs: range, part: int, adam: bool) -> PartData:
    """The data that training gives for ``epochs``, with Adam's moments if ``adam``, otherwise without moments."""
    count, num_epochs = len(members), len(epochs)
    none = np.full(count, -1)
    rows = count * num_epochs
    values = {e: RANDOM.standard_normal((count, LAYOUT.size), np.float32) for e in epochs}
    moments = {name: RANDOM.random((count, LAYOUT.size), np.float32) for name in ("exp_avg", "exp_avg_sq") if adam}
    return PartData(
        unit=members[0], members=members, part=part, epochs=epochs, fields={"": values},
        labels={"model": np.repeat(members, num_epochs), "epoch": np.tile(list(epochs), count),
                "test_loss": np.full(rows, 1.0), "test_correct": np.full(rows, 9), "test_count": np.full(rows, 10)},
        state={"weights": values[epochs[-1]], "step": np.zeros(count, np.int64), "faulty_epoch": none.astype(np.int32),
               "faulty_reason": none.astype(np.int8), **moments},
        numerics={"engine": "none"},
    )  # fmt: skip


def write(
    store: ObjectStore, run: str, num_models: int, num_epochs: int, every: int, reference: Reference, adam: bool = False
) -> Pairs:
    """Commit everything; each part and a sample of the reference's files are a pair."""
    wrote = "Adam's moments too, against a file of the model and one of the optimizer" if adam else "against a file"
    pairs = Pairs(f"commit, {every} epoch{'s' if every > 1 else ''} a part, {wrote}")
    sample = 20 if reference.local else 5
    starts = [0, *range(1, num_epochs + 1, every)]
    for first in range(0, num_models, UNIT):
        members = tuple(range(first, min(first + UNIT, num_models)))
        after = None
        for part, epoch in enumerate(starts):
            epochs = range(1) if part == 0 else range(epoch, min(epoch + every, num_epochs + 1))
            data = part_of(members, epochs, part, adam)
            start = time.perf_counter(), time.process_time()
            after = commit_part(store, run, data, ATTEMPT, after=after).record
            ours = time.process_time() - start[1], time.perf_counter() - start[0]
            if len(epochs) == every and part > 0:
                theirs = take(lambda: reference.save(sample, adam))
                pairs.add(ours, theirs, len(members) * every / sample)
    return pairs


def write_shards(store: ObjectStore, num_models: int, num_epochs: int, reference: Reference) -> Pairs:
    """Measures the cost of the format: hashing shards as a whole and by blocks, and writing them."""
    pairs = Pairs("shards alone, against a file")
    sample = 256 if reference.local else 50
    for _ in range(0, min(num_models, 640), 128):
        values = {tensor_name(e): RANDOM.standard_normal((128, LAYOUT.size), np.float32) for e in range(num_epochs + 1)}
        theirs = take(lambda: reference.save(sample))
        ours = take(partial(write_shard, store, values))
        pairs.add(ours, theirs, 128 * (num_epochs + 1) / sample)
    return pairs


def seal(store: ObjectStore, num_models: int, num_epochs: int) -> None:
    rows = {m: {"row_digest": f"{m:016x}", "seed": m} for m in range(num_models)}
    description = ZooDescription(
        name="bench", title="", source="", dataset="none", architecture="cnn-s", in_channels=1, image_size=28,
        num_classes=10, num_models=num_models, num_epochs=num_epochs, layout=LAYOUT, rows=rows,
        state_dict_names={"plain": NAMES}, shard_shape=(128, 64),
    )  # fmt: skip
    vectorize(store, description, RUN)


def state_dicts(zoo: Zoo, states: list[tuple[int, int]]) -> list[Any]:
    return [zoo.state_dict(model, epoch) for model, epoch in states]


def whole_zoo(zoo: Zoo) -> Any:
    return zoo.weights().torch()


def read(url: str, num_models: int, num_epochs: int, reference: Reference) -> list[Pairs]:
    """Everything is read for the first time, and so hashed, but single states of an epoch that was read."""
    address = f"{url}/zoos/bench"
    open_zoo(address).weights(epochs=0)
    opened = open_zoo(address)
    opened.weights(epochs=7)
    opening, opened_epoch, epoch_50, one, cold, whole = (
        Pairs(what)
        for what in (
            "opening, against one file",
            "opening, and one epoch of all models",
            "one epoch of all models",
            "one state, of an epoch that was read",
            "one state, anywhere for the first time (20 of an opened zoo)",
            "whole zoo into one tensor",
        )
    )
    sample = 100 if reference.local else 50
    reference.save(sample)
    for number in range(15):
        theirs = take(lambda: reference.load(sample))
        ours = take(lambda: open_zoo(address))
        opening.add(ours, theirs, 1 / sample)
        fresh = open_zoo(address)
        ours = take(partial(fresh.weights, epochs=num_epochs))
        epoch_50.add(ours, theirs, num_models / sample)
        ours = take(lambda: open_zoo(address).weights(epochs=num_epochs))
        opened_epoch.add(ours, theirs, num_models / sample)
        models = RANDOM.permutation(num_models)[:50].tolist()
        ours = take(partial(state_dicts, opened, [(m, 7) for m in models]))
        if number:  # a remote store's first one reads the tensors again
            one.add((ours[0] / 50, ours[1] / 50), theirs, 1 / sample)
        fresh = open_zoo(address)
        chosen = [(int(RANDOM.integers(num_models)), int(RANDOM.integers(num_epochs + 1))) for _ in range(20)]
        ours = take(partial(state_dicts, fresh, chosen))
        cold.add((ours[0] / 20, ours[1] / 20), theirs, 1 / sample)
    for _ in range(3):
        theirs = take(lambda: reference.load(sample))
        fresh = open_zoo(address)
        ours = take(partial(whole_zoo, fresh))
        whole.add(ours, theirs, num_models * (num_epochs + 1) / sample)
    return [whole, epoch_50, opened_epoch, one, cold, opening]


def peak(url: str) -> None:
    """Print what reading the whole zoo took beyond its result, in MiB; in a process of its own."""
    zoo = open_zoo(f"{url}/zoos/bench")
    zoo.weights(epochs=0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here

    def status(name: str) -> int:
        line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith(name))
        return int(line.split()[1]) // 1024

    before = status("VmRSS")
    states = zoo.weights()
    print(
        f"  memory while reading the whole zoo: result + {status('VmHWM') - before - states.values.nbytes // MiB} MiB"
    )


def measure(url: str, num_models: int, num_epochs: int, folder: Path) -> None:
    """Print what one store does."""
    store = open_store(url)
    remote = "://" in url
    reference = Reference(folder / ("s3-reference" if remote else "reference"), store if remote else None)
    print(f"{'s3' if remote else 'local'}: {num_models * (num_epochs + 1):,} states, "
          f"{num_models * (num_epochs + 1) * LAYOUT.size * 4 // MiB} MiB; "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    print(write_shards(store, num_models, num_epochs, reference), flush=True)
    print(write(store, RUN, num_models, num_epochs, 1, reference), flush=True)
    print(write(store, "bd" * 16, min(num_models, UNIT), num_epochs, 1, reference, adam=True), flush=True)
    print(write(store, "bf" * 16, min(num_models, UNIT), num_epochs, 10, reference), flush=True)
    sealing = Pairs("publish")
    sample = 500 if reference.local else 100
    theirs = take(lambda: reference.save(sample))
    sealing.add(take(lambda: seal(store, num_models, num_epochs)), theirs, num_models * (num_epochs + 1) / sample)
    for pairs in [sealing, *read(url, num_models, num_epochs, reference)]:
        print(pairs, flush=True)
    subprocess.run([sys.executable, __file__, "--peak", url], check=True)
    print(f"  load {os.getloadavg()[0]:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--s3", action="store_true", help="also through the embedded SeaweedFS")
    parser.add_argument("--peak", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        return peak(options.peak)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        urls = [str(folder / "store")]
        if options.s3:
            server = seaweedfs.up(folder / "s3")
            os.environ.update(server.environment())
            urls.append("s3://zoo/bench")
        try:
            for url in urls:
                measure(url, options.models, options.epochs, folder)
        finally:
            if options.s3:
                seaweedfs.down(folder / "s3")


if __name__ == "__main__":
    main()
