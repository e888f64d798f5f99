"""From training to reading: a thousand models, rivals that die, a server that is killed."""

import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import zooforge
from tests.support.aging_store import DAY, Clock
from tests.support.faulty_store import Died, dying_store
from tests.support.synthetic import RUN, description, part_data, train, weights
from zooforge.storage.errors import StorageUsageError
from zooforge.storage.formats.record import PartRecord
from zooforge.storage.keys import parse_record_key, parts_prefix
from zooforge.storage.ops.gc import collect
from zooforge.storage.ops.pull import pull
from zooforge.storage.ops.verify import verify_zoo
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.runs.commit import commit_part
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.stores import seaweedfs
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.objects import get_object
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.s3.store import S3Store
from zooforge.storage.zoo import Zoo


def test_a_thousand_models_are_written_sealed_verified_and_pulled(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    for first in range(0, 1000, 250):
        train(store, range(first, first + 250), 2, faulty={first + 7: 1})
    version = vectorize(store, description(num_models=1000), RUN)
    assert version.manifest.num_states == 3000
    zoo = zooforge.open_zoo(f"{store.url}/zoos/tiny-zoo")
    assert verify_zoo(zoo).ok
    expected = np.stack([weights(m, e, faulty_from=1 if m % 250 == 7 else None) for m in range(1000) for e in range(3)])
    np.testing.assert_array_equal(zoo.weights().values, expected)
    whole = open_store(str(tmp_path / "whole"))
    pull(zoo, whole)
    assert read(whole.url).manifest.to_json() == version.manifest.to_json() and verify_zoo(read(whole.url)).ok
    part = open_store(str(tmp_path / "part"))
    pull(zoo, part, epochs="1:3", split="test", where="test_acc > 0.5")
    states = read(part.url).weights()
    assert 0 < len(states) < 300 and verify_zoo(read(part.url)).ok
    np.testing.assert_array_equal(states.values[-1], weights(int(states.models[-1]), int(states.epochs[-1])))


def read(url: str) -> Zoo:
    return zooforge.open_zoo(f"{url}/zoos/tiny-zoo")


def test_a_collection_deletes_what_rivals_with_other_numbers_left_and_nothing_else() -> None:
    store = Clock(MemoryStore())

    def rival(job: tuple[int, int]) -> None:
        unit, number = job
        dying = dying_store(store, random.Random(unit * 10 + number))
        data = part_data([4 * unit, 4 * unit + 1], 0, unit=4 * unit, nudge=float(number))
        try:  # engines whose bits depend on the machine name parents, and the winner's numbers stand
            commit_part(dying, RUN, data, f"20260101T000000Z-{number:04x}", parents=["runs/x"])
        except Died:
            return

    jobs = [(unit, number) for unit in range(40) for number in range(4)]
    random.Random(1).shuffle(jobs)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(rival, jobs))
    records = read_ledger(store, RUN).records(
        [k for s in store.list(parts_prefix(RUN)) if (k := parse_record_key(s.key))]
    )
    assert len(records) == len({record.unit for record in records}) == 40
    live = {ref.key for r in records for ref in (r.weights, r.labels, r.state) if ref is not None}
    there = {stat.key for stat in store.list("objects/")}
    assert live < there
    for number in (1, 2):
        store.ahead = number * (DAY + 1)
        collect(store, dry_run=False)
    assert {stat.key for stat in store.list("objects/")} == live
    for record in records:
        for ref in (record.weights, record.labels, record.state):
            assert ref is not None
            get_object(store, ref, "test")


@pytest.mark.slow
def test_a_killed_server_loses_nothing_acknowledged_and_the_run_goes_on(tmp_path: Path) -> None:
    """Four writers commit twelve parts each while the server is killed twice; they wait, and end complete."""
    try:
        server = seaweedfs.up(tmp_path)
    except StorageUsageError as error:
        pytest.skip(str(error))
    environment = server.environment()
    options = {
        "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
        "endpoint_url": server.endpoint,
    }
    store = S3Store(seaweedfs.BUCKET, "run", client_options=options, budget_seconds=240)
    acknowledged: dict[tuple[int, int], PartRecord] = {}

    def write(unit: int) -> None:
        members = range(4 * unit, 4 * unit + 4)
        after = None
        for part in range(12):
            after = commit_part(
                store, RUN, part_data(members, part, unit=4 * unit), f"20260101T00000{unit}Z-0001", after=after
            ).record
            acknowledged[unit, part] = after
            time.sleep(0.2)

    threads = [threading.Thread(target=write, args=(unit,)) for unit in range(4)]
    try:
        for thread in threads:
            thread.start()
        for number in (8, 24):
            deadline = time.monotonic() + 240
            while len(acknowledged) < number and time.monotonic() < deadline:
                time.sleep(0.02)
            os.kill(server.pid, signal.SIGKILL)
            before = dict(acknowledged)
            time.sleep(1)
            server = seaweedfs.up(tmp_path)
            assert server.endpoint == options["endpoint_url"]  # clients know only this address
            for record in before.values():  # as soon as it answers, everything that it acknowledged is there
                assert PartRecord.from_json(store.get(str(record.key))[0], record.key) == record
        for thread in threads:
            thread.join(300)
        assert len(acknowledged) == 48 and store.traffic.num_retries > 0
        ledger = read_ledger(store, RUN)
        assert ledger.totals.model_epochs == 16 * 12
        for record in acknowledged.values():
            for ref in (record.weights, record.labels):
                assert ref is not None
                get_object(store, ref, "test")
        assert ledger.load_state(range(16)).part == 11
    finally:
        seaweedfs.down(tmp_path)
