"""Slots follow the device that a run's programs use: one per GPU, and no more than there are."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.fake_cuda import see_cuda
from tests.support.tiny_runs import RUN, random_data
from zooforge.zoo_jobs.catalogue.entries import load
from zooforge.zoo_jobs.engines.choose import Choice, make_engine
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.running.inputs import Run
from zooforge.zoo_jobs.running.slots import ray_cluster
from zooforge.zoo_jobs.running.slots.place import Place, on_gpus
from zooforge.zoo_jobs.running.stage import new_unit_models

RESNET = Run(load("cifar10-resnet18-seed"))


def choice(name: str) -> Choice:
    return Choice(make_engine(name), "requested")


@pytest.mark.parametrize(("engine", "run", "takes"), [("sequential", RESNET, True), ("stacked", RUN, True),
                                                      ("sequential", RUN, False), ("lanes", RUN, False)])  # fmt: skip
def test_a_worker_takes_a_gpu_where_its_program_uses_one(
    engine: str, run: Run, takes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_cuda(monkeypatch)
    assert on_gpus(choice(engine), run) is takes
    assert not takes or Place("local", None).expected_slots(choice(engine), run) == 1
    two = Place("local", None, workers_per_gpu=2)
    assert two.gpu_share(choice(engine), run) == (0.5 if takes else 0)
    assert not takes or two.expected_slots(choice(engine), run) == 2
    see_cuda(monkeypatch, device=False)
    assert not on_gpus(choice(engine), run)
    monkeypatch.setenv("ZOO_WORKER_GPUS", "1")
    assert on_gpus(choice(engine), run) is takes


def test_a_gpu_trains_larger_units_together(monkeypatch: pytest.MonkeyPatch) -> None:
    see_cuda(monkeypatch)
    assert new_unit_models(choice("stacked"), RUN) == 1024
    assert new_unit_models(choice("lanes"), RUN) == new_unit_models(choice("sequential"), RUN) == 256
    assert new_unit_models(choice("sequential"), RESNET) == 1
    see_cuda(monkeypatch, device=False)
    assert new_unit_models(choice("stacked"), RUN) == 256


def test_one_process_trains_on_a_gpu_with_one_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    see_cuda(monkeypatch)
    with Place("none", 4) as place:
        assert place.slots(choice("lanes"), RUN, random_data()) == 4
        assert not caplog.text
        assert place.slots(choice("stacked"), RUN, random_data()) == 1
    assert "one process trains on one GPU" in caplog.text


@contextlib.contextmanager
def offering(monkeypatch: pytest.MonkeyPatch, **resources: float) -> Iterator[list[dict[str, Any]]]:
    """Replaces Ray by one that offers ``resources`` and starts nothing."""
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(ray_cluster.ray, "init", lambda **options: started.append(options))
    monkeypatch.setattr(ray_cluster.ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray_cluster.ray, "cluster_resources", lambda: resources)
    yield started


@pytest.mark.parametrize(
    ("address", "asked", "gpus", "per_gpu", "slots"),
    [("local", 16, 2, 1, 2), ("local", 1, 2, 1, 1), ("local", None, 2, 1, 2), ("ray://head", 16, 0, 1, 16),
     ("ray://head", None, 0, 1, 1), ("ray://head", 8, 2, 1, 8), ("local", None, 2, 3, 6), ("local", 16, 1, 2, 2),
     ("ray://head", None, 2, 2, 4)],
)  # fmt: skip
def test_slots_on_gpus_are_those_there_are_and_on_a_cluster_those_that_may_come(
    address: str, asked: int | None, gpus: int, per_gpu: int, slots: int, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.WARNING)
    with (
        offering(monkeypatch, CPU=64.0, GPU=float(gpus)),
        ray_cluster.connected(address, asked, 0, gpu_share=1 / per_gpu) as actual,
    ):
        assert actual == slots
    takes = f"a slot takes {'a whole GPU' if per_gpu == 1 else '0.5 of a GPU'}: fewer slots"
    assert (takes in caplog.text) == (address == "local" and asked == 16)


def test_a_machine_whose_gpus_ray_does_not_see_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        offering(monkeypatch, CPU=2.0),
        pytest.raises(InputError, match="Ray sees no GPU"),
        ray_cluster.connected("local", 2, 0, gpu_share=1),
    ):
        pass
