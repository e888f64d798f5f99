"""The registry of engines, and the function that chooses an engine for a machine and a program.

An engine's module is imported only when the engine is constructed.
"""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import InputError, unknown
from .contract import Engine, Program
from .devices import device_kind, has_gpu, no_cuda

ENGINES = {
    "lanes": (".lanes.engine", "LanesEngine"),
    "stacked": (".stacked", "StackedEngine"),
    "sequential": (".sequential.engine", "SequentialEngine"),
}
CHEAPER = {"stacked": ("lanes on CPU nodes costs less for networks this small (docs/performance.md)",)}
"""Hints that are shown when an engine is chosen and another engine does the same work for less money."""


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


def reason_against(engine: Engine, program: Program) -> str | None:
    """The reason why ``auto`` does not choose an engine that could run ``program``; None if there is none."""
    if engine.name == "stacked" and device_kind(engine, program) == "cpu":
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
        return Choice(engine, "requested")
    refused: list[str] = []
    order = ["stacked", "lanes", "sequential"] if has_gpu() else ["lanes", "sequential"]
    for name in order:
        engine = make_engine(name)
        reason = next((r for p in programs if (r := engine.refuses(p) or reason_against(engine, p))), None)
        if reason is None:
            return Choice(engine, "; ".join([*refused, f"{name} runs it here", *CHEAPER.get(name, ())]))
        refused.append(f"not {name}: {reason}")
    raise InputError(f"no engine of this machine can run this zoo: {'; '.join(refused)}")
