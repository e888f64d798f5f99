"""One function decides which device a program uses, for every engine, with and without a GPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.support.fake_cuda import NAME, see_cuda
from zooforge.zoo_jobs.engines.choose import ENGINES, choose, make_engine, reason_against
from zooforge.zoo_jobs.engines.devices import device_kind, has_gpu
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine

Made = Callable[..., Any]


@pytest.mark.parametrize(
    ("engine", "network", "kind"),
    [
        ("lanes", "cnn-s", "cpu"), ("stacked", "cnn-s", "cuda"), ("sequential", "cnn-s", "cpu"),
        ("sequential", "resnet18", "cuda"),
    ],
)  # fmt: skip
def test_a_gpu_is_used_by_stacked_and_for_networks_that_are_no_layer_list(
    engine: str, network: str, kind: str, population: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = population(network, 3, num_models=1, optimizer="sgd").program
    see_cuda(monkeypatch, device=False)
    assert device_kind(make_engine(engine), program) == "cpu"
    see_cuda(monkeypatch)
    assert device_kind(make_engine(engine), program) == kind


def test_a_head_without_a_gpu_answers_for_its_workers(population: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    see_cuda(monkeypatch, device=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    small, resnet = population().program, population("resnet18", 3, num_models=1, optimizer="sgd").program
    assert not has_gpu()
    assert reason_against(make_engine("stacked"), small)
    monkeypatch.setenv("ZOO_WORKER_GPUS", "1")
    assert has_gpu()
    assert reason_against(make_engine("stacked"), small) is None
    assert device_kind(make_engine("sequential"), resnet) == "cuda"
    assert not make_engine("sequential").bitwise(resnet)
    assert "costs less" in choose("auto", [small]).why


def test_bits_repeat_on_a_cpu_and_not_on_a_gpu(population: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """If they were declared repeatable, a rival's part would be taken for equal to a worker's own."""
    resnet = population("resnet18", 3, num_models=1, optimizer="sgd").program
    see_cuda(monkeypatch, device=False)
    assert SequentialEngine().bitwise(resnet)
    see_cuda(monkeypatch)
    assert not SequentialEngine().bitwise(resnet)
    assert not SequentialEngine("cuda:1").bitwise(population().program)
    assert SequentialEngine("cpu").bitwise(resnet)
    assert SequentialEngine().bitwise(population().program)


@pytest.mark.parametrize("name", ENGINES)
def test_numerics_name_the_device_that_is_used(name: str, population: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    see_cuda(monkeypatch)
    engine, program = make_engine(name), population().program
    if device_kind(engine, program) == "cuda":
        assert engine.numerics(program)["device"] == NAME
    elif name != "lanes":
        assert engine.numerics(program)["device"] == torch.backends.cpu.get_cpu_capability()
