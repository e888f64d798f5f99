"""The engine `sequential` trains like plain PyTorch, and always to the same bytes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from tests.support.fake_cuda import see_cuda
from tests.support.plain_pytorch import plain_pytorch
from zooforge.zoo_jobs.engines import philox
from zooforge.zoo_jobs.engines.batches import pixels
from zooforge.zoo_jobs.engines.choose import make_engine
from zooforge.zoo_jobs.engines.contract import MOMENTS, OneCycle, StateArrays
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.models.layers import ACTIVATIONS, Architecture
from zooforge.zoo_jobs.models.torch_module import state_dict, torch_module

Made = Callable[..., Any]


def grow(population: Any, data: Any, epochs: range, models: list[int] | None = None) -> StateArrays:
    hyperparameters, state = population.take(
        models if models is not None else list(range(len(population.state["step"])))
    )
    everyone = np.ones(len(state["step"]), np.bool_)
    with SequentialEngine("cpu").open(population.program, hyperparameters, state, data) as session:
        for epoch in epochs:
            session.train_epoch(epoch, everyone)
        return session.state()


CASES = [
    *({"activation": activation} for activation in ACTIVATIONS),
    *(
        {"optimizer": o, "dropout": d, "learning_rate": 0.0005}
        for o in ("sgd", "rmsprop", "adam")
        for d in (False, True)
    ),
    {"optimizer": "sgd", "nesterov": True},
    {"optimizer": "sgd", "momentum": 0.0},
    {"optimizer": "rmsprop", "momentum": 0.0, "learning_rate": 0.0005},
    {"channels": 3, "activation": "gelu"},
    {"name": "cnn2"},
    {"name": "cnn2", "channels": 3, "dropout": True},
    {"name": "cnn-l", "channels": 1},
    {"name": "cnn-l", "channels": 3, "activation": "relu"},
    {"name": "cnn-l", "channels": 3, "activation": "gelu", "dropout": True, "optimizer": "sgd"},
    {"initializer": "uniform"},
    {"initializer": "normal", "activation": "sigmoid"},
    {"batch_size": 16},
    {"batch_size": 57},
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(f"{v}" for v in case.values()))
def test_two_epochs_are_those_of_plain_pytorch(case: dict[str, Any], population: Made, digits: Made) -> None:
    made = population(**case, num_models=2)
    data = digits(case.get("channels", 1), made.program.architecture.image_size)
    everyone = np.ones(2, np.bool_)
    with SequentialEngine("cpu").open(made.program, made.hyperparameters, made.state, data) as session:
        session.train_epoch(1, everyone)
        running = session.train_epoch(2, everyone)
        state = session.state()
    for model in range(2):
        weights, loss_sum, correct = plain_pytorch(made, data, model, range(1, 3))
        np.testing.assert_allclose(state["weights"][model], weights, rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(running.loss_sum_P[model], loss_sum, rtol=1e-4)
        assert abs(int(running.correct_P[model]) - correct) <= 1
    assert set(running.num_samples_P.tolist()) == {57}
    assert state["step"].tolist() == [2 * -(-57 // made.program.batch_size)] * 2


@pytest.mark.parametrize("case", [{}, {"dropout": True}, {"optimizer": "sgd"}, {"optimizer": "rmsprop"},
                                  {"variational": True}, {"name": "cnn-l", "channels": 3}])  # fmt: skip
def test_other_models_and_interruptions_do_not_change_a_model(
    case: dict[str, Any], population: Made, digits: Made
) -> None:
    made = population(**case, num_models=5)
    data = digits(case.get("channels", 1), made.program.architecture.image_size)
    together = grow(made, data, range(1, 3))
    for model in (0, 3):
        alone = grow(made, data, range(1, 3), [model])
        assert {k: v[0].tobytes() for k, v in alone.items()} == {k: v[model].tobytes() for k, v in together.items()}
    made.state = grow(made, data, range(1, 2))
    resumed = grow(made, data, range(2, 3))
    assert {k: v.tobytes() for k, v in resumed.items()} == {k: v.tobytes() for k, v in together.items()}


def test_the_state_is_a_copy_in_the_shapes_of_the_contract(population: Made, digits: Made) -> None:
    made = population(variational=True, num_models=2)
    with SequentialEngine("cpu").open(made.program, made.hyperparameters, made.state, digits()) as session:
        before = session.state()
        session.train_epoch(1, np.ones(2, np.bool_))
        after = session.state()
    expected = {"weights", "log_sigma2", "step", *MOMENTS["adam"]}
    assert set(before) == set(after) == expected
    for name in expected:
        assert before[name].shape == made.state[name].shape
        assert before[name].tobytes() == made.state[name].tobytes()
        assert not np.array_equal(after[name], before[name])


@pytest.mark.parametrize("variational", [False, True])
def test_a_model_that_is_not_finite_leaves_its_neighbours_alone(
    variational: bool, population: Made, digits: Made
) -> None:
    made = population(variational=variational, num_models=3)
    healthy = grow(made, digits(), range(1, 3))
    made.state["weights"][1, 5] = np.nan
    mixed = grow(made, digits(), range(1, 3))
    for name in healthy:
        for model in (0, 2):
            assert mixed[name][model].tobytes() == healthy[name][model].tobytes()
    assert np.isnan(mixed["weights"][1]).any()


def test_inactive_models_are_left_out(population: Made, digits: Made) -> None:
    made = population(num_models=3)
    active = np.array([True, False, True])
    with SequentialEngine("cpu").open(made.program, made.hyperparameters, made.state, digits()) as session:
        running = session.train_epoch(1, active)
        evaluation = session.evaluate("test")
        after = session.state()
    assert np.array_equal(after["weights"][1], made.state["weights"][1])
    assert np.isnan(running.loss_sum_P).tolist() == np.isnan(evaluation.loss_sum_P).tolist() == [False, True, False]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_evaluation_is_that_of_the_module_in_eval_mode(split: Any, population: Made, digits: Made) -> None:
    made = population(dropout=True, initializer="normal")
    data = digits()
    with SequentialEngine("cpu").open(made.program, made.hyperparameters, made.state, data) as session:
        evaluation = session.evaluate(split)
    part = data.split(split)
    module = torch_module(made.program.architecture, 0.3).eval()
    for model, weights in enumerate(made.state["weights"]):
        module.load_state_dict(state_dict(made.program.architecture, weights))
        with torch.no_grad():
            logits = module(torch.from_numpy(pixels(data.pixel_values, part.images))).double()
        labels = torch.from_numpy(part.labels.astype(np.int64))
        np.testing.assert_allclose(
            evaluation.loss_sum_P[model], F.cross_entropy(logits, labels, reduction="sum"), rtol=1e-5
        )
        assert evaluation.correct_P[model] == (logits.argmax(1) == labels).sum()
    assert set(evaluation.num_samples_P.tolist()) == {len(part)}


def test_training_learns(population: Made, digits: Made) -> None:
    made = population(num_models=1, learning_rate=0.003)
    data = digits(num_train=600)
    with SequentialEngine("cpu").open(made.program, made.hyperparameters, made.state, data) as session:
        losses = [session.train_epoch(epoch, np.ones(1, np.bool_)).loss_sum_P[0] for epoch in range(1, 5)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] / 2


def test_the_callers_threads_and_generator_are_left_alone(population: Made, digits: Made) -> None:
    torch.set_num_threads(2)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    made = population(dropout=True, num_models=1)
    grow(made, digits(), range(1, 2))
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.rand(2), expected)


def test_a_schedule_moves_rate_and_momentum_of_every_step(population: Made, digits: Made) -> None:
    """One epoch of six steps against torch.optim and torch's OneCycleLR."""
    made = population(optimizer="sgd", num_models=1, schedule=OneCycle(6), learning_rate=0.05)
    data = digits()
    trajectory = grow(made, data, range(1, 2))
    module = torch_module(made.program.architecture)
    module.load_state_dict(state_dict(made.program.architecture, made.state["weights"][0]))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=0.001)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=6)
    images = torch.from_numpy(pixels(data.pixel_values, data.train.images))
    labels = torch.from_numpy(data.train.labels.astype(np.int64))
    for rows in torch.from_numpy(philox.permutation(1, 1, 57)).split(10):
        optimizer.zero_grad()
        F.cross_entropy(module(images[rows]), labels[rows]).backward()
        optimizer.step()
        scheduler.step()
    expected = torch.cat([p.detach().reshape(-1) for p in module.parameters()])
    np.testing.assert_allclose(trajectory["weights"][0], expected, rtol=2e-4, atol=2e-5)


def test_programs_that_cannot_run_are_refused_with_a_reason(population: Made) -> None:
    engine = SequentialEngine("cpu")
    program = population().program
    assert engine.refuses(program) is None
    assert "one-cycle" in (engine.refuses(replace(program, schedule=OneCycle(10))) or "")
    assert "accepted: crop-flip, flip-rotate" in (engine.refuses(replace(program, augment="mixup")) or "")
    resnet = population("resnet18", 3, num_models=1, optimizer="sgd").program
    assert "layer list" in (engine.refuses(replace(resnet, variational=True)) or "")
    if not torch.cuda.is_available():
        assert SequentialEngine("cuda").refuses(program) == "torch sees no CUDA device"


def test_numerics_name_all_that_the_numbers_depend_on(population: Made) -> None:
    engine = SequentialEngine()
    assert engine.bitwise(population().program)
    numerics = engine.numerics(population().program)
    assert numerics["engine"] == "sequential"
    assert numerics["torch"] == torch.__version__
    assert numerics["threads"] == 1
    assert numerics["device"] == torch.backends.cpu.get_cpu_capability()
    resnet = population("resnet18", 3, num_models=1, optimizer="sgd").program
    plain = {"amp": False, "channels_last": False, "compiled": False}  # as in the pins of earlier versions
    assert engine.numerics(resnet).items() >= plain.items()
    bf16 = engine.numerics(replace(resnet, precision="bf16", memory_format="channels_last"))
    assert bf16.items() >= {"amp": True, "channels_last": True}.items()


def test_unsupported_precisions_are_refused(population: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    see_cuda(monkeypatch, device=False)
    small, resnet = population().program, population("resnet18", 3, num_models=1, optimizer="sgd").program
    for name in ("sequential", "stacked", "lanes"):
        assert "bf16" in (make_engine(name).refuses(replace(small, precision="bf16")) or "")
    assert "mode of CUDA devices" in (SequentialEngine().refuses(replace(resnet, precision="tf32")) or "")
    see_cuda(monkeypatch)
    tf32 = replace(resnet, precision="tf32")
    assert SequentialEngine().refuses(tf32) is None
    assert SequentialEngine().numerics(tf32)["tf32"] is True


def test_a_chunk_holds_what_fits_a_gigabyte_of_state(population: Made, digits: Made) -> None:
    engine = SequentialEngine("cpu")
    assert engine.chunk_models(population().program, digits(), 256) == 256
    resnet = population("resnet18", 3, num_models=1, optimizer="sgd").program
    assert 1 <= engine.chunk_models(resnet, digits(), 100) < 10
    assert isinstance(population().program.architecture, Architecture)
