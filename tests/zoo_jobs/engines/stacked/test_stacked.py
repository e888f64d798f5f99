"""The engine `stacked` computes what `sequential` computes, model by model, within rounding."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from tests.support.rounding import same_to_rounding
from zooforge.zoo_jobs.engines import cuda as device
from zooforge.zoo_jobs.engines.contract import Engine, OneCycle, Session, StateArrays, initial_state
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.engines.stacked import StackedEngine, network
from zooforge.zoo_jobs.engines.stacked.update import STEPS
from zooforge.zoo_jobs.models.layers import ACTIVATIONS

Made = Callable[..., Any]

CASES = [
    *({"activation": activation} for activation in ACTIVATIONS),
    *({"optimizer": o, "dropout": True, "learning_rate": 0.0005} for o in ("sgd", "rmsprop", "adam")),
    {"optimizer": "sgd", "momentum": [0.9, 0.0, 0.5], "nesterov": [True, False, True]},
    {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0},
    {"optimizer": "rmsprop", "momentum": [0.9, 0.0, 0.5], "learning_rate": 0.0005},
    {"optimizer": "adamw", "weight_decay": [0.0, 0.1, 10.0]},
    {"optimizer": "adamw", "variational": True, "weight_decay": 0.1},
    {"dropout": True, "dropout_ratio": [0.1, 0.3, 0.5]},
    {"channels": 3, "activation": "gelu"},
    {"name": "cnn2"},
    {"name": "cnn2", "channels": 3, "dropout": True},
    {"name": "cnn-l", "channels": 1},
    {"name": "cnn-l", "channels": 3, "activation": "relu", "optimizer": "sgd"},
    {"name": "cnn-l", "channels": 3, "activation": "gelu", "dropout": True},
    {"variational": True},
    {"variational": True, "optimizer": "sgd", "channels": 3, "learning_rate": 0.0005},
    {"variational": True, "optimizer": "rmsprop", "name": "cnn2", "learning_rate": 0.0005},
    {"variational": True, "name": "cnn-l", "channels": 3, "activation": "relu"},
    {"initializer": "uniform", "batch_size": 16},
]
EPOCH = 5  # twins weigh their KL term from epoch 2 on


def grown(engine: Engine, made: Any, data: Any, models: list[int] | None = None) -> tuple[Session, StateArrays, Any]:
    h, state = made.take(models if models is not None else list(range(len(made.state["step"]))))
    with engine.open(made.program, h, state, data) as session:
        running = session.train_epoch(EPOCH, np.ones(len(state["step"]), np.bool_))
        results = {"running": running, "test": session.evaluate("test"), "val": session.evaluate("val")}
        sparsity = session.sparsity() if made.program.variational or made.program.pruned else None
        return sparsity, session.state(), results


@pytest.mark.parametrize("num_train", [10, 97], ids=["1-step", "10-steps"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(f"{v}" for v in case.values()))
def test_it_trains_as_the_oracle_does(case: dict[str, Any], num_train: int, population: Made, digits: Made) -> None:
    made = population(**case, num_models=3)
    data = digits(case.get("channels", 1), made.program.architecture.image_size, num_train)
    oracle, expected, sums = grown(SequentialEngine("cpu"), made, data)
    sparsity, actual, others = grown(StackedEngine("cpu"), made, data)
    same_to_rounding(expected, actual)
    for name, values in sums.items():
        np.testing.assert_allclose(others[name].loss_sum_P, values.loss_sum_P, rtol=2e-4)
        assert np.abs(others[name].correct_P - values.correct_P).max() <= 1
        assert others[name].num_samples_P.tolist() == values.num_samples_P.tolist()
        assert others[name].correct_P.dtype == np.int32
    if oracle is not None:
        assert np.array_equal(oracle.mask_PV, sparsity.mask_PV)
        assert np.array_equal(oracle.num_pruned_P, sparsity.num_pruned_P)
        assert oracle.num_prunable == sparsity.num_prunable
        np.testing.assert_allclose(sparsity.kl_P, oracle.kl_P, rtol=1e-5)


@pytest.mark.parametrize("optimizer", STEPS)
def test_weights_pruned_by_magnitude_stay_zero(optimizer: Any, population: Made, digits: Made) -> None:
    made = population(optimizer=optimizer, learning_rate=0.0005)
    made.program = replace(made.program, pruned=True)
    weights = made.state["weights"]
    made.state = initial_state(made.program, weights, {"mask": np.abs(weights) < 0.05})
    oracle, expected, _ = grown(SequentialEngine("cpu"), made, digits())
    sparsity, actual, _ = grown(StackedEngine("cpu"), made, digits())
    same_to_rounding(expected, actual)
    assert not actual["weights"][made.state["mask"]].any()
    assert np.array_equal(oracle.mask_PV, sparsity.mask_PV)
    assert sparsity.num_pruned_P.tolist() == oracle.num_pruned_P.tolist()


@pytest.mark.parametrize("case", [{}, {"dropout": True}, {"variational": True}, {"name": "cnn-l", "channels": 3}])
def test_other_models_and_chunks_change_results_only_within_rounding(
    case: dict[str, Any], population: Made, digits: Made
) -> None:
    made = population(**case, num_models=7)
    data = digits(case.get("channels", 1), made.program.architecture.image_size)
    _, together, _ = grown(StackedEngine("cpu"), made, data)
    for models in ([0], [5], [1, 2], [3, 4, 6]):
        _, apart, _ = grown(StackedEngine("cpu"), made, data, models)
        same_to_rounding({name: values[models] for name, values in together.items()}, apart, 1e-4, 1e-5)


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e38])
def test_a_model_that_is_not_finite_leaves_its_neighbours_equal(
    variational: bool, poison: float, population: Made, digits: Made
) -> None:
    made = population(variational=variational, num_models=3)
    _, healthy, _ = grown(StackedEngine("cpu"), made, digits())
    made.state["weights"][1, 5] = poison
    _, mixed, results = grown(StackedEngine("cpu"), made, digits())
    for name, values in healthy.items():
        for model in (0, 2):
            assert mixed[name][model].tobytes() == values[model].tobytes(), name
            assert np.isfinite(mixed[name][model]).all()
    assert np.isfinite(results["test"].loss_sum_P[[0, 2]]).all()


def test_going_on_from_a_state_equals_never_having_stopped(population: Made, digits: Made) -> None:
    made = population(dropout=True)
    everyone = np.ones(3, np.bool_)
    with StackedEngine("cpu").open(made.program, made.hyperparameters, made.state, digits()) as session:
        session.train_epoch(1, everyone)
        middle = session.state()
        session.train_epoch(2, everyone)
        through = session.state()
    assert middle["step"].tolist() == [6] * 3
    with StackedEngine("cpu").open(made.program, made.hyperparameters, middle, digits()) as session:
        session.train_epoch(2, everyone)
        resumed = session.state()
    assert {k: v.tobytes() for k, v in through.items()} == {k: v.tobytes() for k, v in resumed.items()}


def test_the_state_is_a_copy(population: Made, digits: Made) -> None:
    made = population(variational=True)
    with StackedEngine("cpu").open(made.program, made.hyperparameters, made.state, digits()) as session:
        before = session.state()
        session.train_epoch(1, np.ones(3, np.bool_))
    for name, values in before.items():
        assert values.tobytes() == made.state[name].tobytes(), name


@pytest.mark.parametrize(("kernel", "height", "width"), [(2, 4, 4), (3, 15, 15), (5, 12, 9)])
def test_patches_and_their_transposed_map_agree_on_both_ways(kernel: int, height: int, width: int) -> None:
    """<patches(x), g> = <x, from_patches(g)>, and the GPU's two kernels give the sums of the CPU's slices."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 4, height, width, generator=generator, dtype=torch.float64)
    unfolded = network.patches(images, kernel)
    grads = torch.randn(unfolded.shape, generator=generator, dtype=torch.float64)
    back = network.from_patches(grads, images.shape, kernel)
    torch.testing.assert_close((unfolded * grads).sum(), (images * back).sum())
    windows = grads.view(2, 3, kernel, kernel, 4, height - kernel + 1, width - kernel + 1)
    torch.testing.assert_close(network.summed_by_kernels(windows, images.shape, kernel), back)


def test_the_gpus_sums_read_memory_in_order_and_are_those_of_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbouring threads compute neighbours along the last axis, so a kernel must read neighbouring addresses."""
    generator = torch.Generator().manual_seed(1)
    windows = torch.randn(2, 3, 3, 3, 4, 6, 7, generator=generator)
    shape = (2, 3, 4, 8, 9)
    plain = torch.ops.aten.unfold_backward(windows.permute(0, 1, 4, 5, 6, 2, 3), [2, 3, 4, 6, 9, 3], 4, 3, 1)
    plain = torch.ops.aten.unfold_backward(plain, list(shape), 3, 3, 1)
    strides: list[int] = []
    unfold_backward = torch.ops.aten.unfold_backward

    def spied(grads: torch.Tensor, sizes: list[int], dim: int, size: int, step: int) -> torch.Tensor:
        last = len(sizes) - 1
        strides.append(grads.stride()[last])
        result: torch.Tensor = unfold_backward(grads, sizes, dim, size, step)
        return result

    monkeypatch.setattr(torch.ops.aten, "unfold_backward", spied)
    assert torch.equal(network.summed_by_kernels(windows, shape, 3), plain)
    assert strides == [1, 1]


def test_programs_that_cannot_run_are_refused_with_a_reason(population: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = StackedEngine("cpu")
    program = population().program
    assert engine.refuses(program) is None
    assert "schedule" in (engine.refuses(replace(program, schedule=OneCycle(10))) or "")
    assert "augmentation" in (engine.refuses(replace(program, augment="crop-flip")) or "")
    assert "layer list" in (engine.refuses(population("resnet18", 3, num_models=1, optimizer="sgd").program) or "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "torch" in (StackedEngine("cuda").refuses(program) or "")


def test_numerics_name_everything_that_the_numbers_depend_on(population: Made) -> None:
    numerics = StackedEngine("cpu").numerics(population().program)
    assert numerics["engine"] == "stacked"
    assert numerics["torch"] == torch.__version__
    assert numerics["device"] == torch.backends.cpu.get_cpu_capability()


def test_a_full_device_is_a_memory_error_and_threads_come_back() -> None:
    torch.set_num_threads(2)
    with pytest.raises(MemoryError), device.Place(torch.device("cpu")).active():
        assert torch.get_num_threads() == 1
        raise torch.OutOfMemoryError("full")
    assert torch.get_num_threads() == 2


def test_other_threads_may_allocate_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """In torch's default mode, an allocation by the thread that commits a part would invalidate the capture."""
    captures: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def graph(graph: Any, **options: Any) -> Iterator[None]:
        captures.append(options)
        yield

    calls: list[int] = []
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: calls.append(2)))
    monkeypatch.setattr(torch.cuda, "graph", graph)
    body = device.Body(lambda: calls.append(1), cast("torch.cuda.Stream", object()), None)
    for _ in range(4):
        body()
    assert calls == [1, 1, 1, 2, 2]  # two eager calls, the capture, two replays
    assert [options["capture_error_mode"] for options in captures] == ["thread_local"]


def test_a_broken_device_does_not_hide_the_first_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "empty_cache", fails)
    place = device.Place(torch.device("cpu"))
    place._stream = SimpleNamespace(synchronize=fails)  # type: ignore[assignment]
    place.release()


def test_other_errors_are_not_changed() -> None:
    with pytest.raises(RuntimeError, match="shapes"), device.Place(torch.device("cpu")).active():
        raise RuntimeError("shapes do not fit")
