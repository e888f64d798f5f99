"""Writing and reading a zoo, against the reference's way of one torch.save file per state. Ratios of one run.

    python benchmarks/storage_formats.py [--models 1000] [--epochs 50] [--s3]

LAST_RESULT
"""

import argparse
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
    """Median of ``times`` runs."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def publish(url: str, num_models: int, num_epochs: int) -> tuple[float, float]:
    """Seconds to commit all parts, and to publish them."""
    store = open_store(url)
    generator = np.random.default_rng(0)
    start = time.perf_counter()
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
    committed = time.perf_counter()
    rows = {m: {"row_digest": f"{m:016x}", "seed": m} for m in range(num_models)}
    description = ZooDescription(
        name="bench", title="", source="", dataset="none", architecture="cnn-s", in_channels=1, image_size=28,
        num_classes=10, num_models=num_models, num_epochs=num_epochs, layout=LAYOUT, rows=rows,
        state_dict_names={"plain": NAMES},
    )  # fmt: skip
    vectorize(store, description, RUN)
    return committed - start, time.perf_counter() - committed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--s3", action="store_true", help="also through the embedded SeaweedFS")
    options = parser.parse_args()
    torch.set_num_threads(1)
    num_states = options.models * (options.epochs + 1)
    raw_bytes = num_states * LAYOUT.size * 4
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few = 2000
        state = {NAMES[n]: torch.from_numpy(np.array(v)) for n, v in
                 LAYOUT.unflatten(np.random.default_rng(1).standard_normal(LAYOUT.size, np.float32)).items()}  # fmt: skip
        start = time.perf_counter()
        for number in range(few):
            torch.save(state, folder / f"{number}.pt")
        reference_write = (time.perf_counter() - start) / few

        def load(count: int) -> None:
            for number in range(count):
                torch.load(folder / f"{number}.pt")

        reference_read = seconds(lambda: load(few), 3) / few
        print(f"reference: write {reference_write * 1e6:.0f} us, read {reference_read * 1e6:.0f} us per state")
        urls = [str(folder / "store")]
        if options.s3:
            server = embedded.up(folder / "s3")
            import os

            os.environ.update(server.environment())
            urls.append("s3://zoo/bench")
        for url in urls:
            kind = "s3" if url.startswith("s3") else "local"
            commit, shards = publish(url, options.models, options.epochs)
            zoo = open_zoo(f"{url}/zoos/bench")
            zoo.weights(epochs=0)
            whole = seconds(lambda: zoo.weights(), 3)
            epoch = seconds(lambda: zoo.weights(epochs=options.epochs))
            one = seconds(lambda: zoo.state_dict(7, 7), 15)
            labels = seconds(lambda: open_zoo(f"{url}/zoos/bench").labels())
            mib = raw_bytes / 2**20
            print(
                f"{kind}: {num_states:,} states, {mib:.0f} MiB\n"
                f"  commit {commit:.2f} s ({reference_write * num_states / commit:.0f}x), "
                f"publish {shards:.2f} s ({mib / shards:.0f} MiB/s)\n"
                f"  all states {whole:.2f} s ({reference_read * num_states / whole:.0f}x), "
                f"one epoch {epoch * 1e3:.1f} ms ({reference_read * options.models / epoch:.0f}x), "
                f"one state {one * 1e3:.2f} ms ({reference_read / one:.1f}x), labels {labels * 1e3:.0f} ms"
            )
        if options.s3:
            embedded.down(folder / "s3")


if __name__ == "__main__":
    main()
