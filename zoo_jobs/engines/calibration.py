"""Measures each engine's training rate on this machine, with CNN-s, and compares it with the machine's peak."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..data.prepared import PreparedData, Split
from ..models.initialize import initial_weights
from ..models.registry import Architecture, architecture
from .choose import ENGINES, make_engine
from .contract import Engine, Hyperparameters, Program, initial_state
from .devices import device_kind

NUM_IMAGES = 200
MODELS = {"lanes": 16, "stacked": 16, "sequential": 1}  # models in memory, on a CPU
GPU_MODELS = 256
PEAK_SIDE, GPU_PEAK_SIDE = 512, 4096  # side of the square matrices whose product gives torch's peak
PEAK_LOOPS = 8
PEAK_RATIO = 0.2  # share of the time that is spent on measuring the peak


@dataclass(frozen=True, slots=True)
class EngineReport:
    """The measurements of one engine. ``reason`` says why it does not run here; it is None if it runs.

    Attributes:
        where: device and instruction set.
        samples_per_second: training samples per second of one slot, summed over its models.
        peak_ratio: multiply-adds per second of training, divided by the rate of ``peak_of`` in the same minute.
        bytes_per_model: memory that one more model takes; None if the engine does not predict it.
    """

    name: str
    bitwise: bool
    reason: str | None
    where: str = ""
    num_models: int = 0
    samples_per_second: float = 0.0
    peak_ratio: float | None = None
    peak_of: str = ""
    bytes_per_model: int | None = None


def calibration_program() -> Program:
    """The program that is measured: CNN-s with one channel, batch size 10, Adam."""
    return Program(architecture("cnn-s", 1, "tanh", False), "adam", 10, dropout=False)


def calibrate(seconds: float) -> list[EngineReport]:
    """One report per engine, within about ``seconds`` in all."""
    program = calibration_program()
    engines: list[tuple[str, Engine, str | None]] = []
    for name in ENGINES:
        engine = make_engine(name)
        engines.append((name, engine, engine.refuses(program)))
    share = seconds / max(1, sum(reason is None for *_, reason in engines))
    return [
        EngineReport(name, engine.bitwise(program), reason)
        if reason is not None
        else _measured(name, engine, program, share)
        for name, engine, reason in engines
    ]


def _measured(name: str, engine: Engine, program: Program, seconds: float) -> EngineReport:
    on_gpu = device_kind(engine, program) == "cuda"
    num_models = GPU_MODELS if on_gpu else MODELS[name]
    data = _random_data()
    num_models = min(num_models, engine.chunk_models(program, data, num_models))
    clock = time.perf_counter if on_gpu else time.process_time
    peak, peak_of = _peak(name, on_gpu, PEAK_RATIO * seconds)
    rate = _rate(engine, program, data, num_models, (1 - PEAK_RATIO) * seconds, clock)
    network = program.architecture
    assert isinstance(network, Architecture)
    predicted = getattr(engine, "peak_bytes", None)
    return EngineReport(
        name=name,
        bitwise=engine.bitwise(program),
        reason=None,
        where=_where(name, on_gpu),
        num_models=num_models,
        samples_per_second=rate,
        peak_ratio=rate * network.num_train_macs / peak,
        peak_of=peak_of,
        bytes_per_model=(
            None if predicted is None else (predicted(program, data, 512) - predicted(program, data, 256)) // 256
        ),
    )


def _rate(
    engine: Engine,
    program: Program,
    data: PreparedData,
    num_models: int,
    seconds: float,
    clock: Callable[[], float],
) -> float:
    """Training samples per second, summed over the models. The first epoch is not counted."""
    zeros = np.zeros(num_models)
    h = Hyperparameters(
        np.arange(num_models, dtype=np.uint32),
        zeros + 3e-4,
        zeros,
        zeros,
        zeros.astype(np.bool_),
        zeros,
        zeros + 1,
        zeros,
    )
    weights = np.tile(initial_weights(program.architecture, "kaiming_uniform", 1), (num_models, 1))
    active = np.ones(num_models, np.bool_)
    with engine.open(program, h, initial_state(program, weights), data) as session:
        session.train_epoch(1, active)
        epoch, begun, end = 1, clock(), time.perf_counter() + seconds
        while epoch < 2 or time.perf_counter() < end:
            epoch += 1
            session.train_epoch(epoch, active)
        return (epoch - 1) * NUM_IMAGES * num_models / (clock() - begun)


def _peak(name: str, on_gpu: bool, seconds: float) -> tuple[float, str]:
    """The peak in multiply-adds per second and its name: an FMA loop for ``lanes``, a matrix product for torch."""
    if name == "lanes":
        from .lanes.engine import extension, instruction_set

        # Take the fastest of several short loops, because other processes may slow some of them down.
        loops = [extension().peak(instruction_set(), seconds / PEAK_LOOPS) for _ in range(PEAK_LOOPS)]
        return float(max(loops)), "FMA loop"
    import torch

    side = GPU_PEAK_SIDE if on_gpu else PEAK_SIDE
    device = "cuda" if on_gpu else "cpu"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        left = torch.ones(side, side, device=device)
        out = left @ left
        clock = time.perf_counter if on_gpu else time.process_time
        _finish(on_gpu)
        done, begun = 0, clock()
        while done < 3 or clock() - begun < seconds:
            torch.matmul(left, left, out=out)
            _finish(on_gpu)
            done += 1
        return done * side**3 / (clock() - begun), f"float32 matrix product of {side} x {side}"
    finally:
        torch.set_num_threads(threads)


def _finish(on_gpu: bool) -> None:
    if on_gpu:
        import torch

        torch.cuda.synchronize()


def _where(name: str, on_gpu: bool) -> str:
    if name == "lanes":
        from .lanes.engine import extension, instruction_set

        return f"CPU, {extension().name_of(instruction_set())}"
    import torch

    return torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.backends.cpu.get_cpu_capability()}"


def _random_data() -> PreparedData:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (NUM_IMAGES, 1, 28, 28), np.uint8)
    split = Split(images, generator.integers(0, 10, NUM_IMAGES).astype(np.uint8))
    none = Split(images[:0], split.labels[:0])
    return PreparedData("random", 10, np.linspace(-1, 1, 256, dtype=np.float32)[None], split, none, none)
