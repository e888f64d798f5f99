"""The steps of ``check``: ``python -m tests.gpu.steps NAME JSON`` runs one and writes its numbers.

A step fails by an exception. ``DEVICE`` names the device; ``SIZE`` is tiny (on a CPU), small or full.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.support import gaussian_noise
from zooforge.zoo_jobs.engines import cuda, philox
from zooforge.zoo_jobs.engines.batches import AUGMENTATIONS
from zooforge.zoo_jobs.engines.contract import Engine, Program
from zooforge.zoo_jobs.engines.gpu_driver import gpu_report
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.engines.stacked import StackedEngine, compiled, random_numbers

from .check import NUMBERS
from .populations import images, population, program, resnet
from .side_by_side import Plan, measure

DEVICE = torch.device(os.environ.get("DEVICE", "cpu"))
SIZE = os.environ.get("SIZE", "tiny")
ON_GPU = DEVICE.type == "cuda"
ZOO_STEPS, ZOO_EVALUATED = 50 * 5_000, 51 * 10_000  # of 50 epochs of 50,000 + 10,000 images, batches of 10
Numbers = dict[str, Any]
SHARED = (2, 4)  # ResNets per card, besides one
SHARED_PLANS = ("float32", "contiguous"), ("bf16", "channels_last")


def by_size(tiny: int, small: int, full: int) -> int:
    return {"tiny": tiny, "small": small, "full": full}[SIZE]


def finish() -> None:
    if ON_GPU:
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], Any], repeats: int) -> float:
    """The time of the fastest of ``repeats`` runs, after one warm-up."""
    seconds = []
    for _ in range(repeats + 1):
        finish()
        started = time.perf_counter()
        work()
        finish()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def facts() -> Numbers:
    """Versions, and the rates of memory copies and matrix products, to which the other figures are compared."""
    values = torch.ones(by_size(1 << 20, 1 << 28, 1 << 28), device=DEVICE)
    copy = seconds_of(lambda: values.clone(), 3)
    side = by_size(128, 4096, 8192)
    numbers: Numbers = {
        "versions": gpu_report().words,
        "copy_GB_per_s": round(2 * 4 * values.numel() / copy / 1e9, 1),
    }
    for name, dtype, precision in (("float32", torch.float32, "highest"), ("tf32", torch.float32, "high"),
                                   ("bf16", torch.bfloat16, "highest")):  # fmt: skip
        torch.set_float32_matmul_precision(precision)
        left = torch.ones(side, side, device=DEVICE, dtype=dtype)
        taken = seconds_of(lambda left=left: left @ left, 3)
        numbers[f"{name}_TFLOP_per_s"] = round(2 * side**3 / taken / 1e12, 2)
    if ON_GPU:
        numbers["memory_GiB"] = round(torch.cuda.mem_get_info()[1] / 2**30, 1)
    return numbers


def replays() -> Numbers:
    """The time of twenty steps of 1,000 CNN-s models, and the time of a whole zoo that follows from it."""
    return stacked_rate(program(), by_size(4, 1000, 1000), steps=20)


def stacked_rate(of: Program, num_models: int, steps: int) -> Numbers:
    """Milliseconds of a step and of an evaluation of 1,000 images in epoch 2, whose steps replay a graph on a GPU."""
    network = of.architecture
    data = images(network.in_channels, network.image_size, steps * of.batch_size, by_size(20, 1000, 1000))
    h, state = population(of, num_models)
    active = np.ones(num_models, np.bool_)
    numbers: Numbers = {"models": num_models}
    with StackedEngine(str(DEVICE)).open(of, h, state, data) as session:
        numbers["predicted_GiB"] = round(StackedEngine(str(DEVICE)).peak_bytes(of, data, num_models) / 2**30, 3)
        session.train_epoch(1, active)
        session.evaluate("test")
        finish()
        started = time.perf_counter()
        session.train_epoch(2, active)
        middle = time.perf_counter()
        session.evaluate("test")
        ended = time.perf_counter()
    if ON_GPU:
        numbers["reserved_GiB"] = round(torch.cuda.max_memory_reserved() / 2**30, 3)
    step, image = (middle - started) / steps, (ended - middle) / len(data.test)
    numbers["ms_per_step"] = round(1e3 * step, 4)
    numbers["train_samples_per_second"] = round(num_models * of.batch_size / step)
    numbers["eval_samples_per_second"] = round(num_models / image)
    if network.name == "cnn-s" and num_models >= 1000:
        numbers["minutes_per_1000_model_zoo"] = round(
            1000 / num_models * (ZOO_STEPS * step + ZOO_EVALUATED * image) / 60, 1
        )
    return numbers


def numbers() -> Numbers:
    """Words, dropout masks and orders made on the device are those of NumPy, bit for bit; noise to rounding."""
    seeds = np.array([1, 999_999, 2**32 - 1], np.uint32)
    on_device = torch.tensor(seeds.astype(np.int64), device=DEVICE)
    epoch, step = (torch.tensor(value, device=DEVICE) for value in (7, 3))
    for purpose in (philox.Purpose.DROPOUT, philox.Purpose.NOISE):
        drawn = random_numbers.words(on_device, purpose, epoch, step,
                                     random_numbers.sample_streams(1, 10, DEVICE), 1304)  # fmt: skip
        expected = philox.words(
            seeds[:, None], purpose, epoch=7, step=3, stream=philox.sample_streams(1, 10), num_words=1304
        )
        assert np.array_equal(drawn.cpu().numpy(), expected), purpose
    draws = compiled.draws(DEVICE)
    where = on_device, epoch, step, random_numbers.sample_streams(1, 10, DEVICE), 1304
    thirds = torch.full((3, 1, 1), philox.dropout_threshold(1 / 3), device=DEVICE)
    factors = draws.dropout_factors(*where, thirds, torch.ones(3, 1, 1, device=DEVICE))
    kept = philox.keep_mask(seeds, epoch=7, step=3, layer=1, num_samples=10, num_values=1304, ratio=1 / 3)
    assert np.array_equal(factors.cpu().numpy() != 0, kept)
    noise = gaussian_noise.gaussians(seeds, epoch=7, step=3, layer=1, num_samples=10, num_values=1304)
    off = float(np.abs(draws.gaussians(*where).cpu().numpy() - noise).max())
    assert off < 1e-4, off
    rows = by_size(100, 50_000, 50_000)
    order = torch.zeros((3, rows), dtype=torch.int32, device=DEVICE)
    random_numbers.permutations(on_device, epoch, order)
    assert np.array_equal(order.cpu().numpy(), philox.permutation(seeds, 7, rows))
    return {"rows": rows, "compiled": draws.compiled, "largest_difference_of_noise": off}


CASES: list[dict[str, Any]] = [
    {}, {"dropout": True}, {"optimizer": "sgd"}, {"optimizer": "rmsprop", "dropout": True}, {"activation": "gelu"},
    {"name": "cnn2"}, {"name": "cnn-l", "channels": 3, "activation": "relu"}, {"variational": True},
    {"name": "cnn-l", "channels": 3, "variational": True},
]  # fmt: skip


def cases() -> Numbers:
    """An epoch of each program in the CPU's tests equals that of ``sequential`` on the CPU within rounding."""
    worst = 0.0
    chosen = CASES[: by_size(2, len(CASES), len(CASES))]
    for case in chosen:
        of = program(**case)
        data = images(of.architecture.in_channels, of.architecture.image_size, 57, 30)
        expected = trained(SequentialEngine("cpu"), of, data)
        for graphs in (True, False) if ON_GPU else (True,):
            with eager(not graphs):
                state = trained(StackedEngine(str(DEVICE)), of, data)
            worst = max(worst, difference(expected, state))
            assert worst < 1e-2, (case, graphs, worst)
    return {"cases": len(chosen), "largest_share_of_values_beyond_rounding": worst}


def trained(engine: Engine, of: Program, data: Any, epochs: range = range(5, 6)) -> dict[str, Any]:
    h, state = population(of, 3 if of.schedule is None else 1, learning_rate=5e-4)
    with engine.open(of, h, state, data) as session:
        for epoch in epochs:
            session.train_epoch(epoch, np.ones(len(state["step"]), np.bool_))
        test = session.evaluate("test")
        return {**session.state(), "test_loss": test.loss_sum_P[:, None]}


def difference(expected: dict[str, Any], actual: dict[str, Any], rtol: float = 1e-3) -> float:
    """The largest share of values of an array that differ by more than rounding. Adam divides a first gradient by its
    own size, so a few values whose gradient is nearly nothing may."""
    shares = []
    for name, values in expected.items():
        allowed = rtol * np.abs(values) + 0.1 * rtol * max(1.0, float(np.abs(values).max()))
        shares.append(float((np.abs(actual[name].astype(np.float64) - values) > allowed).mean()))
    return max(shares)


@contextlib.contextmanager
def eager(yes: bool) -> Iterator[None]:
    """Keep ``stacked`` from capturing graphs."""
    before = cuda.EAGER_CALLS
    cuda.EAGER_CALLS = 1 << 60 if yes else before
    try:
        yield
    finally:
        cuda.EAGER_CALLS = before


def no_synchronisation() -> Numbers:
    """A step and an evaluation of ``stacked`` never wait for the device."""
    of = program(dropout=True)
    h, state = population(of, 3)
    data = images(1, 28, 60, 40)
    with StackedEngine(str(DEVICE)).open(of, h, state, data) as session:
        for epoch in (1, 2):  # the first one captures the graph
            session.train_epoch(epoch, np.ones(3, np.bool_))
            session.evaluate("test")
        with session._place.active(), torch.no_grad():
            session._epoch_step.zero_()
            session._first_image.zero_()
            if ON_GPU:
                torch.cuda.set_sync_debug_mode("error")
            with torch.enable_grad():
                session._place.run(("step", 10), partial(session._train_step, 10))
            session._place.run(("test", 10), partial(session._evaluate_block, "test", 10))
            if ON_GPU:
                torch.cuda.set_sync_debug_mode("default")
    return {"checked": ON_GPU}


def memory() -> Numbers:
    """Full memory raises MemoryError and training can continue; a NaN stays in its model; closing frees the memory."""
    of = program()
    data = images(1, 28, 57, 30)
    h, state = population(of, 3)
    healthy = trained(StackedEngine(str(DEVICE)), of, data)
    state["weights"][1, 5] = np.nan
    with StackedEngine(str(DEVICE)).open(of, h, state, data) as session:
        session.train_epoch(5, np.ones(3, np.bool_))
        mixed = session.state()
    again = trained(StackedEngine(str(DEVICE)), of, data)
    assert again["weights"].tobytes() == healthy["weights"].tobytes(), "equal input, other bits"
    assert np.isfinite(mixed["weights"][[0, 2]]).all() and np.isnan(mixed["weights"][1]).any()
    if not ON_GPU:
        return {"checked": False}
    finish()
    before = torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 2 * 2**30 / torch.cuda.mem_get_info()[1]))
    try:
        big, start = population(of, by_size(4, 2000, 2000))
        with StackedEngine(str(DEVICE)).open(of, big, start, data) as session:
            session.train_epoch(1, np.ones(len(start["step"]), np.bool_))
        raise AssertionError("2,000 models fitted into 2 GiB")
    except MemoryError as error:
        words = str(error)[:80]
    torch.cuda.set_per_process_memory_fraction(1.0)
    assert trained(StackedEngine(str(DEVICE)), of, data)["weights"].tobytes() == healthy["weights"].tobytes()
    left = torch.cuda.memory_reserved() - before
    assert left <= 64 * 2**20, f"{left:,} bytes were not given back"
    return {"checked": True, "left_bytes": left, "words": words}


def prediction() -> Numbers:
    """Reserved memory divided by the predicted memory."""
    ratios: Numbers = {}
    for name, case in (("cnn-s", {}), ("dropout", {"dropout": True}), ("twins", {"variational": True}),
                       ("cnn-l", {"name": "cnn-l", "channels": 3})):  # fmt: skip
        if ON_GPU:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        rate = stacked_rate(program(**case), by_size(2, 128, 256), steps=5)
        if ON_GPU:
            ratios[name] = round(rate["reserved_GiB"] / rate["predicted_GiB"], 2)
            assert 0.3 < ratios[name] < 1.5, (name, ratios[name])
    return ratios


def resnet_equal() -> Numbers:
    """Three float32 steps of ResNet-18 equal those of the CPU within rounding."""
    size, batch = by_size(16, 32, 32), by_size(4, 32, 32)
    of, data = resnet(batch, 3, size), images(3, size, 3 * batch, 10)
    expected = trained(SequentialEngine("cpu"), of, data, range(1, 2))
    state = trained(SequentialEngine(str(DEVICE)), of, data, range(1, 2))
    share = difference({"weights": expected["weights"]}, state, 1e-2)
    assert share < 1e-2, share
    assert state["step"].tolist() == expected["step"].tolist() == [3]
    return {"share_of_values_beyond_rounding": share, "augmentations": list(AUGMENTATIONS)}


def resnet_speed() -> Numbers:
    """Milliseconds of a ResNet-18 step and evaluation, in every arithmetic, with batches of 256 images of 32 x 32."""
    results: Numbers = {}
    size, batch, steps = by_size(16, 32, 32), by_size(4, 256, 256), by_size(2, 10, 20)
    data = images(3, size, steps * batch, by_size(8, 2000, 2000))
    plans = [("float32", "contiguous"), ("float32", "channels_last"), ("tf32", "channels_last"), ("bf16", "contiguous"),
             ("bf16", "channels_last")]  # fmt: skip
    for precision, memory_format in plans if ON_GPU else plans[:1]:
        of = resnet(batch, 10 * steps, size, precision=precision, memory_format=memory_format)
        h, state = population(of, 1)
        with SequentialEngine(str(DEVICE)).open(of, h, state, data) as session:
            session.train_epoch(1, np.ones(1, np.bool_))
            session.evaluate("test")
            finish()
            started = time.perf_counter()
            session.train_epoch(2, np.ones(1, np.bool_))
            middle = time.perf_counter()
            session.evaluate("test")
            ended = time.perf_counter()
        key = f"{precision} {memory_format}"
        results[f"{key} ms_per_step"] = round(1e3 * (middle - started) / steps, 2)
        results[f"{key} train_samples_per_second"] = round(steps * batch / (middle - started))
        results[f"{key} eval_samples_per_second"] = round(len(data.test) / (ended - middle))
    return results


def resnet_side_by_side() -> Numbers:
    """Samples per second of 1, 2 and 4 ResNet-18 on one card, each in a process of its own, and the memory in use."""
    size, batch, steps = by_size(16, 32, 32), by_size(4, 256, 256), by_size(2, 10, 20)
    plans = [Plan(*kind, size, batch, steps, by_size(8, 2000, 2000)) for kind in SHARED_PLANS]
    return measure(plans if ON_GPU else plans[:1], (1, *SHARED[: by_size(1, 2, 2)]), DEVICE)


def stacked_speed() -> Numbers:
    """Rates of ``stacked`` with 256 and 1,000 models, dropout, twins and CNN-l, and the slowest kernels."""
    plans: list[tuple[str, Program, int]] = [
        ("256 cnn-s", program(), 256), ("1000 dropout", program(dropout=True), 1000),
        ("1000 twins", program(variational=True), 1000), ("256 cnn-l", program("cnn-l", 3), 256),
    ]  # fmt: skip
    results: Numbers = {}
    for name, of, num_models in plans if SIZE != "tiny" else plans[:1]:
        results[name] = stacked_rate(of, by_size(2, num_models, num_models), steps=by_size(3, 10, 30))
    if ON_GPU:
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            stacked_rate(program(), 1000, steps=10)
        rows = sorted(seen.key_averages(), key=lambda row: -row.device_time_total)[:8]
        results["kernels"] = {row.key[:60]: round(row.device_time_total / 1e3, 2) for row in rows}
    return results


def rates() -> Numbers:
    """Print the measurements of the earlier steps as rows for zoo_jobs/planning/rates.yaml."""
    earlier = json.loads(Path(sys.argv[2]).read_text())
    by_name = {step["name"]: step["numbers"] for step in earlier["steps"] if step["outcome"] == "PASS"}
    speed = by_name.get("stacked_speed", {})
    measured = [("stacked", "cnn-s", 1, "false", by_name.get("replays")), ("stacked", "cnn-s", 1, "true",
                speed.get("1000 twins")), ("stacked", "cnn-l", 3, "false", speed.get("256 cnn-l"))]  # fmt: skip
    resnets = by_name.get("resnet_speed", {})
    keys = ("train_samples_per_second", "eval_samples_per_second")
    for precision, memory_format in (("float32", "contiguous"), ("bf16", "channels_last")):
        one = {key: resnets.get(f"{precision} {memory_format} {key}") for key in keys}
        measured.append(
            ("sequential", f"resnet18, precision: {precision}", 3, "false", one if all(one.values()) else None)
        )
    shared = by_name.get("resnet_side_by_side", {})
    for precision, memory_format in SHARED_PLANS:
        for count in SHARED:
            together = [shared.get(f"{precision} {memory_format} x{count} {key}") for key in keys]
            if None not in together:  # a rate is that of one slot
                one = {key: round(value / count, 1) for key, value in zip(keys, together, strict=True)}
                network = f"resnet18, precision: {precision}, workers_per_gpu: {count}"
                measured.append(("sequential", network, 3, "false", one))
    rows = []
    for engine, network, channels, twins, one in measured:
        if one is not None:
            pace = ", ".join(f"{key}: {one[key]}" for key in keys)
            rows.append(
                f"{{engine: {engine}, architecture: {network}, channels: {channels}, twins: {twins}, "
                f"date: {earlier['date'][:10]}, {pace}}}"
            )
    assert rows, "no step before this one measured a rate"
    return {"rows": rows}


STEPS: dict[str, Callable[[], Numbers]] = {
    step.__name__: step
    for step in (facts, replays, numbers, cases, no_synchronisation, memory, prediction, resnet_equal, resnet_speed,
                 resnet_side_by_side, stacked_speed, rates)
}  # fmt: skip

if __name__ == "__main__":
    print(NUMBERS + json.dumps(STEPS[sys.argv[1]]()), flush=True)
