"""Times the ledger: lists 50,360 models and EuroSAT in a store, and compares them with their plan.

    PYTHONPATH=. python benchmarks/ledger.py [--s3] [--parts 51]

The zoos of the reference and EuroSAT, whose units have all committed some parts; then, as a driver does at its start,
one LIST and one GET per folder of each run, and the tasks that are missing of every unit. CPU seconds and wall time of
five readings, median. Also the objects of the published collection: its shards, tables, manifests and their copies.

Last result: docs/performance.md.
"""

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zooforge.storage.formats.record import PartRecord, Totals
from zooforge.storage.formats.shards import shard_shape
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.stores import seaweedfs
from zooforge.storage.stores.objects import ref_of
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.zoo_jobs.catalogue.entries import load, names
from zooforge.zoo_jobs.planning.estimate import VERSION_OBJECTS
from zooforge.zoo_jobs.planning.units import request, tasks, work_units
from zooforge.zoo_jobs.publishing.describe import describe
from zooforge.zoo_jobs.spec.epochs import part_epochs
from zooforge.zoo_jobs.spec.zoo import ZooSpec

TABLES = 2  # labels and models


def reference_zoos() -> list[ZooSpec]:
    return [spec for name in names() if isinstance(spec := load(name), ZooSpec) and spec.reference is not None]


def commit(store: ObjectStore, zoo: ZooSpec, num_parts: int) -> int:
    """Records as commits write them, without their objects; how many folders."""
    nothing = ref_of(b"", "safetensors")
    units = work_units(zoo)
    for unit in units:
        digests = tuple(f"{model:016x}" for model in unit.models)
        for part in range(num_parts):
            epochs = part_epochs(part, zoo.commit_every)
            record = PartRecord(
                run=zoo.run_id, unit=unit.id, members=unit.models, part=part, epochs=(epochs.start, epochs.stop),
                kept=(epochs.start,), weights=nothing, labels=nothing, state=nothing, weight_digests=digests,
                label_digests=digests, faulty=(), numerics={"engine": "none"}, attempt="20260101T000000Z-0001",
                samples=1, seconds=1.0, totals=Totals(),
            )  # fmt: skip
            store.put(str(record.key), record.to_json(), if_absent=True)
    return len(units)


def published_objects(zoo: ZooSpec) -> int:
    """Objects of a published zoo: shards, tables, and the additional files."""
    described = describe(zoo)
    models, epochs = shard_shape(described.shard_shape, described.layout.size)
    return -(-described.num_models // models) * -(-(zoo.num_epochs + 1) // epochs) + TABLES + VERSION_OBJECTS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--s3", action="store_true", help="through the embedded SeaweedFS instead of a directory")
    parser.add_argument("--parts", type=int, default=3, help="committed parts of every unit")
    options = parser.parse_args()
    zoos = reference_zoos()
    cnns = [zoo for zoo in zoos if zoo.architecture != "resnet18"]
    print(f"{len(cnns)} CNN zoos, published: {sum(map(published_objects, cnns)):,} objects")
    plans = [(zoo, work_units(zoo), request(zoo)) for zoo in zoos]
    num_models = sum(len(unit.models) for _, units, _ in plans for unit in units)
    with tempfile.TemporaryDirectory() as name:
        url = name
        if options.s3:
            server = seaweedfs.up(Path(name))
            os.environ.update(server.environment())
            url = f"{server.url}/ledger"
        store = open_store(url)
        with ThreadPoolExecutor(16) as pool:
            num_folders = sum(pool.map(lambda zoo: commit(store, zoo, options.parts), zoos))
        cpu, wall, missing = [], [], 0
        for _ in range(5):
            started, clock = time.process_time(), time.perf_counter()
            missing = 0
            with ThreadPoolExecutor(4 if options.s3 else 1) as pool:
                ledgers = list(pool.map(lambda zoo: read_ledger(store, zoo.run_id), zoos))
            for (_, units, wanted), ledger in zip(plans, ledgers, strict=True):
                missing += sum(len(task.models) for task in tasks(units, wanted, ledger.next_part))
            cpu.append(time.process_time() - started)
            wall.append(time.perf_counter() - clock)
        if options.s3:
            seaweedfs.down(Path(name))
    print(
        f"{num_models:,} models in {num_folders:,} folders of {options.parts} parts listed and set against their plan: "
        f"{statistics.median(cpu):.2f} CPU s, {statistics.median(wall):.2f} s of wall time; {missing:,} parts missing; "
        f"load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
