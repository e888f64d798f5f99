"""The task image_regression in lanes: the same bytes everywhere, gradients, and the rules of docs/lanes.md."""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.lanes_cases import INSTRUCTION_SETS, Case, run
from tests.support.lanes_images import NUM_IMAGES, ODD, SINES, learners, loss_and_gradient
from tests.support.paths import ROOT
from zooforge.zoo_jobs.engines.lanes import LanesEngine
from zooforge.zoo_jobs.engines.lanes.engine import VERSION, native_session
from zooforge.zoo_jobs.models.layers import Layer, Linear
from zooforge.zoo_jobs.models.torch_module import state_dict, torch_module
from zooforge.zoo_jobs.tasks.image_regression import coordinates, targets

GOLDEN = ROOT / "tests" / "golden" / "lanes_images.json"
CASES: dict[str, Callable[..., Case]] = {
    "sines adam": lambda **o: learners(SINES, "adam", **o),
    "sines sgd": lambda **o: learners(SINES, "sgd", side=7, **o),
    "sines adamw pruned": lambda **o: learners(SINES, "adamw", pruned=True, side=4, **o),
    "odd adam": lambda **o: learners(ODD, "adam", **o),
    "odd rmsprop": lambda **o: learners(ODD, "rmsprop", side=3, **o),
    "one layer, one pixel": lambda **o: learners((Linear(2, 3),), "sgd", side=1, **o),
}
EACH_CASE = pytest.mark.parametrize("name", CASES)


@EACH_CASE
def test_a_trajectory_is_the_same_for_every_width_chunk_and_interruption(name: str) -> None:
    whole = CASES[name]()
    expected = run(whole, isa=INSTRUCTION_SETS[0])
    for isa in INSTRUCTION_SETS[1:]:
        assert run(whole, isa=isa).digest() == expected.digest(), isa
    assert run(whole.take([18])).digest() == expected.digest(slice(18, 19))
    assert run(whole.take(range(7, 14))).digest() == expected.digest(slice(7, 14))
    first = run(whole, epochs=[1])
    assert run(whole, epochs=[2], state=first.state).digest() == expected.digest()


def test_sessions_that_train_at_the_same_time_in_threads_give_the_bits_of_each_alone() -> None:
    whole = learners(SINES, num_models=32)
    halves = [whole.take(range(16)), whole.take(range(16, 32))]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda half: run(half).digest(), halves))
    expected = run(whole)
    assert together == [expected.digest(slice(16)), expected.digest(slice(16, 32))]


def test_a_model_that_is_not_finite_leaves_its_neighbours_bit_identical() -> None:
    healthy = learners(SINES)
    sick = replace(healthy, weights=healthy.weights.copy())
    sick.weights[5] = np.nan
    expected, found = run(healthy), run(sick)
    assert np.isnan(found.state["weights"][5]).all()
    assert np.isnan(found.test.loss_sum_P[5])
    for models in (slice(0, 5), slice(6, 19)):
        assert found.digest(models) == expected.digest(models)


def trajectories() -> dict[str, str]:
    """SHA-256 over the whole state of three models, and all their sums, after two epochs."""
    return {name: run(of(num_models=3)).digest() for name, of in CASES.items()}


def test_two_epochs_end_in_the_bytes_of_this_numerics_version() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["version"] == VERSION, f"write the golden file again: python -m {__name__}"
    assert trajectories() == golden["sha256"], "the numbers changed: raise VERSION in lanes/engine.py, or undo that"


@EACH_CASE
def test_loss_and_gradient_are_those_of_torch_in_float64(name: str) -> None:
    chosen = CASES[name](num_models=2)
    values = chosen.weights.astype(np.float64)
    network, data = chosen.program.architecture, chosen.data
    module = torch_module(network)
    module.load_state_dict(state_dict(network, chosen.weights[0]), strict=True)
    module.double()
    pixels = torch.from_numpy(targets(data.train.images[0], data.pixel_values)).double()
    inputs = torch.from_numpy(coordinates(data.train.images.shape[-1])).double()
    loss = torch.nn.functional.mse_loss(module(inputs), pixels)
    loss.backward()
    expected = torch.cat([p.grad.reshape(-1) for p in module.parameters() if p.grad is not None]).numpy()
    for isa, tolerance in [("double", 1e-6), *((isa, 2e-5) for isa in INSTRUCTION_SETS)]:
        found_loss, found = loss_and_gradient(chosen, isa, values)
        assert found_loss == pytest.approx(loss.item(), rel=tolerance)
        assert np.abs(found - expected).max() < tolerance * np.abs(expected).max(), isa


@pytest.mark.parametrize("layers", [SINES, ODD], ids=["sines", "odd"])
def test_gradients_equal_central_differences(layers: tuple[Layer, ...]) -> None:
    chosen = learners(layers, num_models=1)
    values = chosen.weights.astype(np.float64)
    _, gradient = loss_and_gradient(chosen, "double", values)
    scale = np.abs(gradient).max()
    for i in range(0, values.shape[1], max(1, values.shape[1] // 40)):
        moved = np.repeat(values, 2, axis=0)
        moved[:, i] += [1e-6, -1e-6]
        above, below = (loss_and_gradient(chosen, "double", row[None])[0] for row in moved)
        assert abs((above - below) / 2e-6 - gradient[i]) < 3e-5 * scale, i


def test_sums_count_every_pixel_of_every_step_and_epochs_add_their_steps() -> None:
    chosen = learners(ODD, side=4, steps=6, rate=0.0)
    result = run(replace(chosen, hyperparameters=replace(chosen.hyperparameters, weight_decay_P=np.zeros(19))))
    assert set(result.running.num_samples_P) == {6 * 16} and set(result.test.num_samples_P) == {16}
    np.testing.assert_allclose(result.running.loss_sum_P, 6 * result.test.loss_sum_P, rtol=1e-12)
    assert result.state["step"].tolist() == [12] * 19
    assert result.test.class_correct_PC.shape == (19, 0)


def test_inactive_groups_are_skipped() -> None:
    chosen = learners(SINES, num_models=32)
    with LanesEngine().open(chosen.program, chosen.hyperparameters, chosen.state(), chosen.data) as session:
        running = session.train_epoch(1, np.arange(32) < 16)
        weights = session.state()["weights"]
    assert np.array_equal(weights[16:], chosen.weights[16:])
    assert (running.loss_sum_P[16:] == 0).all()


def test_work_space_does_not_grow_with_the_number_of_images() -> None:
    chosen = learners(SINES, side=28)
    many = replace(chosen.data.train, images=np.zeros((500, 1, 28, 28), np.uint8), labels=np.zeros(500, np.uint8))
    engine, more = LanesEngine(), replace(chosen.data, train=many)
    assert engine.peak_bytes(chosen.program, more, 19) - engine.peak_bytes(chosen.program, chosen.data, 19) == (
        many.images.nbytes - chosen.data.train.images.nbytes
    )


def test_images_that_do_not_fit_are_refused() -> None:
    chosen = learners(SINES)
    active = np.ones(19, np.bool_)
    for wrong, words in (
        (replace(chosen.data, train=learners(SINES, side=6).data.train), "the images do not fit"),
        (replace(chosen.data, train=learners(ODD).data.train), "the images do not fit"),
    ):
        with (
            LanesEngine().open(chosen.program, chosen.hyperparameters, chosen.state(), wrong) as session,
            pytest.raises(ValueError, match=words),
        ):
            session.train_epoch(1, active)
    h = replace(chosen.hyperparameters, image_P=np.full(19, NUM_IMAGES))
    with (
        LanesEngine().open(chosen.program, h, chosen.state(), chosen.data) as session,
        pytest.raises(ValueError, match="a model learns an image that is not there"),
    ):
        session.train_epoch(1, active)
    session = native_session(chosen.program, chosen.hyperparameters, "auto")
    with pytest.raises(ValueError, match="size of the coordinates"):
        session.put_images(np.zeros(19, np.int64), coordinates(4))
    with pytest.raises(ValueError, match="negative"):
        session.put_images(np.full(19, -1), coordinates(5))


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({"version": VERSION, "sha256": trajectories()}, indent=2) + "\n")
    sys.stdout.write(f"{GOLDEN}\n")
