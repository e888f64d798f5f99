"""The registry of engines, and the choice of one for a machine and a program. Engines are imported when needed."""

import importlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, unknown
from .contract import Engine, Program

ENGINES = {
    "lanes": (".lanes.engine", "LanesEngine"),
    "stacked": (".stacked", "StackedEngine"),
    "sequential": (".sequential.engine", "SequentialEngine"),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine of a run, and a sentence that says why it was chosen."""

    engine: Engine
    why: str


def make_engine(name: str) -> Engine:
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    module, cls = ENGINES[name]
    engine: Engine = getattr(importlib.import_module(module, __package__), cls)()
    return engine


def workers_have_gpus() -> bool:
    """Whether ``ZOO_WORKER_GPUS`` says that a cluster's workers have GPUs, which the driver need not have."""
    return os.environ.get("ZOO_WORKER_GPUS", "0") not in ("", "0")


def has_gpu() -> bool:
    """Whether an NVIDIA device is visible, here or to the workers, without importing torch."""
    if workers_have_gpus():
        return True
    return Path("/dev/nvidiactl").exists() and os.environ.get("CUDA_VISIBLE_DEVICES", "all") not in ("", "-1")


def reason_against(engine: Engine) -> str | None:
    """The reason why ``auto`` does not choose an engine that could run here; None if there is none."""
    device = getattr(engine, "device", None)  # of torch; only ``stacked`` has one
    if workers_have_gpus():
        return None
    if device is not None and device.type == "cpu":
        from .stacked.engine import no_cuda

        return f"{no_cuda()}, and on a CPU this engine serves only as a check"
    return None


def choose(requested: str, programs: Iterable[Program]) -> Choice:
    """The engine ``requested``, or with ``auto`` the fastest that runs all ``programs`` here.

    Raises InputError: there is no such engine, or it cannot run one of the programs; the message says why.
    """
    programs = list(programs)
    if requested != "auto":
        engine = make_engine(requested)
        for program in programs:
            if reason := engine.refuses(program):
                raise InputError(f"engine {requested} cannot run this zoo: {reason}")
        return Choice(engine, "asked for")
    refused: list[str] = []
    order = ["stacked", "lanes", "sequential"] if has_gpu() else ["lanes", "sequential"]
    for name in order:
        engine = make_engine(name)
        reason = reason_against(engine) or next((r for p in programs if (r := engine.refuses(p))), None)
        if reason is None:
            return Choice(engine, "; ".join([*refused, f"{name} runs it here"]))
        refused.append(f"not {name}: {reason}")
    raise InputError(f"no engine of this machine can run this zoo: {'; '.join(refused)}")
