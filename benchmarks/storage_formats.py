"""Writing and reading a zoo, against the reference's way of one torch.save file per state. Ratios of one run.

    python benchmarks/storage_formats.py [--models 1000] [--epochs 50] [--s3]

Last result (2 cores of an AMD EPYC shared with other work, so CPU seconds of the client; opening included, on S3
also the making of a client): reference 782 us to write and 987 us to read a state.
  local: commit 4.62 s (9x), publish 3.74 s (11x), all 51,000 states 0.49 s (102x), one epoch 19.2 ms (51x),
         one state 0.35 ms (2.8x; 0.22 ms and 4.1x on a quieter machine), labels 30 ms
  s3:    commit 6.23 s (6x), publish 4.53 s (9x), all states 2.19 s (23x), one epoch 352 ms (3x, opening included),
         one state 3.9 ms (0.3x: the whole epoch of its shard is read and hashed), labels 129 ms
Not reached yet: writing 50x, one state 5x, and on S3 one epoch 100x.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from storage import embedded
from storage.commit import PartData, commit_part
from storage.dataset import open_zoo
from storage.description import ZooDescription
from storage.layout import Layout
from storage.object_store import open_store
from storage.publish import vectorize

LAYOUT = Layout.of(
    [("conv1.weight", (8, 1, 5, 5)), ("conv1.bias", (8,)), ("conv2.weight", (6, 8, 5, 5)), ("conv2.bias", (6,)),
     ("conv3.weight", (4, 6, 2, 2)), ("conv3.bias", (4,)), ("linear1.weight", (20, 36)), ("linear1.bias", (20,)),
     ("linear2.weight", (10, 20)), ("linear2.bias", (10,))]
)  # fmt: skip
NAMES = {e.name: f"module_list.{n}.{e.name.rpartition('.')[2]}" for e, n in
         zip(LAYOUT.entries, [0, 0, 3, 3, 6, 6, 9, 9, 11, 11], strict=True)}  # fmt: skip
RUN = "be" * 16
ATTEMPT = "20260101T000000Z-0001"


def seconds(run: Callable[[], object], times: int = 5) -> float:
    """Median CPU seconds of ``times`` runs: the machine may be shared."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def publish(url: str, num_models: int, num_epochs: int) -> tuple[float, float]:
    """CPU seconds to commit all parts, and to publish them."""
    store = open_store(url)
    generator = np.random.default_rng(0)
    start = time.process_time()
    for first in range(0, num_models, 256):
        members = tuple(range(first, min(first + 256, num_models)))
        after = None
        for epoch in range(num_epochs + 1):
            values = generator.standard_normal((len(members), LAYOUT.size), np.float32)
            count = len(members)
            none = np.full(count, -1)
            data = PartData(
                unit=first, members=members, part=epoch, epochs=range(epoch, epoch + 1), fields={"": {epoch: values}},
                labels={"model": np.array(members), "epoch": np.full(count, epoch), "test_loss": np.full(count, 1.0),
                        "test_correct": np.full(count, 9), "test_count": np.full(count, 10)},
                state={"weights": values, "step": np.zeros(count, np.int64), "faulty_epoch": none.astype(np.int32),
                       "faulty_reason": none.astype(np.int8)},
                numerics={"engine": "none"},
            )  # fmt: skip
            after = commit_part(store, RUN, data, ATTEMPT, after=after).record
    committed = time.process_time()
    rows = {m: {"row_digest": f"{m:016x}", "seed": m} for m in range(num_models)}
    description = ZooDescription(
        name="bench", title="", source="", dataset="none", architecture="cnn-s", in_channels=1, image_size=28,
        num_classes=10, num_models=num_models, num_epochs=num_epochs, layout=LAYOUT, rows=rows,
        state_dict_names={"plain": NAMES},
    )  # fmt: skip
    vectorize(store, description, RUN)
    return committed - start, time.process_time() - committed


def measure(url: str, num_models: int, num_epochs: int, reference_write: float, reference_read: float) -> None:
    """Print what one store does."""
    num_states = num_models * (num_epochs + 1)
    mib = num_states * LAYOUT.size * 4 / 2**20
    commit, shards = publish(url, num_models, num_epochs)
    zoo = open_zoo(f"{url}/zoos/bench")
    zoo.weights(epochs=0)
    # A zoo that was just opened hashes everything that it reads; single states are read from one that is open.
    whole = seconds(lambda: open_zoo(f"{url}/zoos/bench").weights(), 3)
    epoch = seconds(lambda: open_zoo(f"{url}/zoos/bench").weights(epochs=num_epochs))
    one = seconds(lambda: [zoo.state_dict(m, 7) for m in range(7, 57)], 5) / 50
    labels = seconds(lambda: open_zoo(f"{url}/zoos/bench").labels())
    print(
        f"{url.partition(':')[0] if '://' in url else 'local'}: {num_states:,} states, {mib:.0f} MiB, CPU seconds\n"
        f"  commit {commit:.2f} s ({reference_write * num_states / commit:.0f}x), "
        f"publish {shards:.2f} s ({reference_write * num_states / shards:.0f}x)\n"
        f"  all states {whole:.2f} s ({reference_read * num_states / whole:.0f}x), "
        f"one epoch {epoch * 1e3:.1f} ms ({reference_read * num_models / epoch:.0f}x), "
        f"one state {one * 1e3:.2f} ms ({reference_read / one:.1f}x), labels {labels * 1e3:.0f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--s3", action="store_true", help="also through the embedded SeaweedFS")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few = 2000
        vector = np.random.default_rng(1).standard_normal(LAYOUT.size, np.float32)
        named = LAYOUT.unflatten(vector).items()
        state = {NAMES[name]: torch.from_numpy(np.array(value)) for name, value in named}
        start = time.process_time()
        for number in range(few):
            torch.save(state, folder / f"{number}.pt")
        reference_write = (time.process_time() - start) / few

        def load(count: int) -> None:
            for number in range(count):
                torch.load(folder / f"{number}.pt")

        reference_read = seconds(lambda: load(few), 3) / few
        print(f"reference: write {reference_write * 1e6:.0f} us, read {reference_read * 1e6:.0f} us per state")
        urls = [str(folder / "store")]
        if options.s3:
            server = embedded.up(folder / "s3")
            os.environ.update(server.environment())
            urls.append("s3://zoo/bench")
        for url in urls:
            measure(url, options.models, options.epochs, reference_write, reference_read)
        if options.s3:
            embedded.down(folder / "s3")


if __name__ == "__main__":
    main()
