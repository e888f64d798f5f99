"""The session that keeps everything of a ResNet on the device, tested with the CPU as the device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from zooforge.zoo_jobs.engines import batches, philox
from zooforge.zoo_jobs.engines.contract import OneCycle
from zooforge.zoo_jobs.engines.cuda import Place
from zooforge.zoo_jobs.engines.sequential import engine, module_session
from zooforge.zoo_jobs.engines.sequential.device_images import augment_numbers, augmented
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.engines.sequential.module_session import ModuleSession

Made = Callable[..., Any]
CPU = torch.device("cpu")


@pytest.fixture
def made(population: Made) -> Any:
    return population(
        "resnet18", 3, optimizer="sgd", activation="relu", num_models=2, batch_size=16, image_size=16,
        schedule=OneCycle(4), augment="crop-flip", learning_rate=0.05, weight_decay=5e-4,
    )  # fmt: skip


def on_device(made: Any, data: Any, program: Any = None) -> ModuleSession:
    return ModuleSession(program or made.program, made.hyperparameters, made.state, data, CPU)


@pytest.mark.parametrize("augment", batches.AUGMENTATIONS)
@pytest.mark.parametrize("size", [32, 33])
def test_augmented_bytes_are_those_of_numpy(augment: str, size: int) -> None:
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (500, 3, size, size), dtype=np.uint8)
    words = philox.augment_words(7, epoch=3, step=np.arange(5), num_samples=100).reshape(-1, 4)
    numbers = {name: torch.from_numpy(values) for name, values in augment_numbers(words, augment).items()}
    image = augmented(torch.from_numpy(images), numbers, augment)
    assert image.dtype == torch.uint8
    assert np.array_equal(image.numpy(), batches.augmented(images, words, augment))


@pytest.mark.parametrize("case", [{}, {"augment": "flip-rotate"}, {"augment": None, "schedule": None}], ids=str)
def test_it_trains_and_evaluates_as_the_session_of_a_cpu_does(case: dict[str, Any], made: Any, digits: Made) -> None:
    data, program, everyone = digits(3, 16, 24), replace(made.program, **case), np.ones(2, np.bool_)
    results = []
    sessions = (
        SequentialEngine("cpu").open(program, made.hyperparameters, made.state, data),
        on_device(made, data, program),
    )
    for session in sessions:
        with session:
            running = session.train_epoch(1, everyone)
            tests = session.evaluate("test")
            results.append((session.state(), running, tests))
    (expected, running, tests), (actual, other_running, other_tests) = results
    assert expected.keys() == actual.keys()
    for name, values in expected.items():
        assert actual[name].dtype == values.dtype and actual[name].shape == values.shape
        np.testing.assert_allclose(actual[name], values, rtol=2e-3, atol=2e-4, err_msg=name)
    np.testing.assert_allclose(other_running.loss_sum_P, running.loss_sum_P, rtol=1e-4)
    np.testing.assert_allclose(other_tests.loss_sum_P, tests.loss_sum_P, rtol=1e-3)
    assert np.abs(other_tests.correct_P - tests.correct_P).max() <= 1
    assert np.abs(other_tests.class_predicted_PC - tests.class_predicted_PC).max() <= 1
    for evaluation in (tests, other_tests):
        assert evaluation.class_correct_PC.sum(axis=1).tolist() == evaluation.correct_P.tolist()
        assert evaluation.class_predicted_PC.sum(axis=1).tolist() == [len(data.test)] * 2
    assert set(other_running.num_samples_P) == set(running.num_samples_P) == {24}


def test_an_interruption_and_an_inactive_neighbour_change_no_bit(made: Any, digits: Made) -> None:
    data, everyone, first = digits(3, 16, 24), np.ones(2, np.bool_), np.array([True, False])
    with on_device(made, data) as session:
        session.train_epoch(1, everyone)
        middle = session.state()
        session.evaluate("val")
        session.train_epoch(2, everyone)
        through = session.state()
    made.state = middle
    with on_device(made, data) as session:
        running = session.train_epoch(2, first)
        resumed = session.state()
        assert (
            np.isnan(running.loss_sum_P).tolist()
            == np.isnan(session.evaluate("val").loss_sum_P).tolist()
            == [False, True]
        )
    for name, values in through.items():
        assert resumed[name][0].tobytes() == values[0].tobytes(), name
        assert resumed[name][1].tobytes() == middle[name][1].tobytes(), name


class HostReads(TorchDispatchMode):
    """Counts the values that the host reads one by one. On a GPU each read would wait for the device."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@contextmanager
def spied(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[HostReads, list[int]]]:
    reads: list[int] = []
    read = ModuleSession._read_sums

    def counted(self: ModuleSession) -> Any:
        reads.append(1)
        return read(self)

    monkeypatch.setattr(ModuleSession, "_read_sums", counted)
    with HostReads() as mode:
        yield mode, reads


def test_the_host_waits_once_per_model_and_epoch(made: Any, digits: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session of a CPU reads the losses of every block, and torch's SGD is given rates that the host computes."""
    data, everyone = digits(3, 16, 24), np.ones(2, np.bool_)
    with on_device(made, data) as session, spied(monkeypatch) as (mode, reads):
        session.train_epoch(1, everyone)
        assert len(reads) == 2
        session.evaluate("test")
        assert len(reads) == 4
        assert mode.count == 0
    plain = replace(made.program, augment=None)
    with SequentialEngine("cpu").open(plain, made.hyperparameters, made.state, data) as cpu, HostReads() as mode:
        cpu.train_epoch(1, everyone)
        cpu.evaluate("test")
        assert mode.count >= 4


def test_the_state_is_copied_once_training_has_been_queued_and_before_it_is_read(
    made: Any, digits: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    copies = type(Place(CPU).host_copies({}))
    for name in ("start", "read"):
        plain = getattr(copies, name)
        monkeypatch.setattr(copies, name, lambda self, name=name, plain=plain: (order.append(name), plain(self))[1])
    monkeypatch.setattr(ModuleSession, "_evaluate_block", lambda self, split, num_images: order.append("evaluate"))
    with on_device(made, digits(3, 16, 24)) as session:
        session.train_epoch(1, np.array([True, False]))
        session.evaluate("test")
        session.state()
    assert order == ["start", "evaluate", "read"]


def test_an_evaluation_takes_two_thousand_images_at_once(
    made: Any, digits: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module_session.EVALUATED_AT_ONCE == 2000
    monkeypatch.setattr(module_session, "EVALUATED_AT_ONCE", 7)
    blocks: list[int] = []
    with on_device(made, digits(3, 16, 24)) as session:
        whole = session.evaluate("test")
        monkeypatch.setattr(ModuleSession, "_evaluate_block", lambda self, split, num_images: blocks.append(num_images))
        session._place._bodies.clear()
        session.evaluate("test")
    assert blocks == [7, 7, 7, 7, 2] * 2
    assert set(whole.num_samples_P) == {30}


def test_it_serves_modules_on_cuda_and_a_cpu_keeps_its_bits(made: Any) -> None:
    assert engine._on_device(made.program, torch.device("cuda"))
    assert not engine._on_device(made.program, CPU)
    assert not engine._on_device(replace(made.program, optimizer="adam"), torch.device("cuda"))
    assert SequentialEngine("cpu").numerics(made.program)["version"] == 1
