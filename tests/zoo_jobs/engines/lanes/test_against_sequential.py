"""The engine computes the same mathematics as plain torch, compared tensor by tensor."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.support.lanes_cases import Case, Result, catalogue_case, finish, run
from tests.support.lanes_strategies import COMBINATIONS, cases
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.models.layers import ActivationName
from zooforge.zoo_jobs.models.optimizers import OptimizerName


def oracle(chosen: Case, epochs: int) -> Result:
    program = chosen.program
    with SequentialEngine().open(program, chosen.hyperparameters, chosen.state(), chosen.data) as session:
        for epoch in range(1, epochs + 1):
            running = session.train_epoch(epoch, np.ones(chosen.num_models, np.bool_))
        return finish(session, running, program)


def distances(chosen: Case, found: Result, expected: Result) -> dict[str, float]:
    """Largest difference of each tensor of the layout, relative to the tensor's largest value."""
    worst: dict[str, float] = {}
    layout = chosen.program.architecture.layout
    for field, values in expected.state.items():
        if field in ("step", "mask"):
            assert np.array_equal(found.state[field], values)
            continue
        if values.shape[1] < layout.size:
            parts = {"": slice(0, values.shape[1])}
        else:
            parts = {e.name: slice(e.offset, e.stop) for e in layout.entries}
        for name, part in parts.items():
            difference = np.abs(found.state[field][:, part] - values[:, part]).max()
            worst[f"{field} {name}"] = float(difference / (np.abs(values[:, part]).max() + 1e-12))
    return worst


@pytest.mark.parametrize(("name", "activation", "optimizer", "kind"), COMBINATIONS)
@pytest.mark.parametrize("steps", [1, 10])
def test_every_tensor_agrees_with_torch(
    name: str, activation: ActivationName, optimizer: OptimizerName, kind: str, steps: int
) -> None:
    chosen = catalogue_case(name, activation, optimizer, kind, num_models=3, train=7 * steps)
    if optimizer in ("rmsprop", "adamw"):  # the first steps divide tiny gradients by their own size
        chosen = slowed(chosen)
    found, expected = run(chosen, epochs=[1]), oracle(chosen, 1)
    for tensor, distance in distances(chosen, found, expected).items():
        divided = optimizer == "rmsprop" and tensor.startswith("momentum_buffer")
        assert distance < (5e-3 if divided else 2e-5 if steps == 1 else 2e-3), tensor
    np.testing.assert_allclose(found.running.loss_sum_P, expected.running.loss_sum_P, rtol=1e-6)
    np.testing.assert_allclose(found.test.loss_sum_P, expected.test.loss_sum_P, rtol=1e-6)
    assert np.array_equal(found.running.correct_P, expected.running.correct_P)
    assert np.array_equal(found.test.correct_P, expected.test.correct_P)
    assert np.array_equal(found.test.class_correct_PC, expected.test.class_correct_PC)
    assert np.array_equal(found.test.class_predicted_PC, expected.test.class_predicted_PC)
    if found.sparsity is not None and expected.sparsity is not None:
        assert found.sparsity.num_prunable == expected.sparsity.num_prunable
        assert np.array_equal(found.sparsity.num_pruned_P, expected.sparsity.num_pruned_P)
        assert np.array_equal(found.sparsity.mask_PV, expected.sparsity.mask_PV)
        np.testing.assert_allclose(found.sparsity.kl_P, expected.sparsity.kl_P, rtol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_twins_that_keep_weight_decay_and_another_lambda_train_as_torch_does(optimizer: OptimizerName) -> None:
    chosen = catalogue_case("cnn-s ch1", "tanh", optimizer, "twin", num_models=3, train=70, decay=0.05)
    chosen = replace(chosen, program=replace(chosen.program, lambda_epochs=1))
    found, expected = run(chosen, epochs=[1, 2]), oracle(chosen, 2)
    assert max(distances(chosen, found, expected).values()) < 2e-3
    others = replace(chosen, program=replace(chosen.program, lambda_epochs=25)), undecayed(chosen)
    for other in others:
        assert not np.array_equal(run(other, epochs=[1, 2]).state["log_sigma2"], found.state["log_sigma2"])


def undecayed(chosen: Case) -> Case:
    h = chosen.hyperparameters
    return replace(chosen, hyperparameters=replace(h, weight_decay_P=np.zeros_like(h.weight_decay_P)))


def slowed(chosen: Case) -> Case:
    h = chosen.hyperparameters
    return replace(chosen, hyperparameters=replace(h, learning_rate_P=h.learning_rate_P / 1000))


@given(cases())
@settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_any_layer_list_trains_as_torch_does(chosen: Case) -> None:
    few = slowed(chosen.take(range(min(2, chosen.num_models))))
    found, expected = run(few, epochs=[1]), oracle(few, 1)
    np.testing.assert_allclose(found.state["weights"], expected.state["weights"], rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(found.running.loss_sum_P, expected.running.loss_sum_P, rtol=2e-5, atol=1e-6)


def test_adamw_takes_decay_off_the_weights_and_keeps_it_out_of_the_moments() -> None:
    chosen = catalogue_case("cnn-s ch1", "tanh", "adamw", "plain", num_models=3, train=7, decay=5.0)
    decayed, plain = run(chosen, epochs=[1]).state, run(undecayed(chosen), epochs=[1]).state
    h = chosen.hyperparameters
    assert decayed["exp_avg"].tobytes() == plain["exp_avg"].tobytes()
    assert decayed["exp_avg_sq"].tobytes() == plain["exp_avg_sq"].tobytes()
    lost = (h.learning_rate_P * h.weight_decay_P)[:, None] * chosen.weights
    assert np.abs(lost).max() > 1e-3
    np.testing.assert_allclose(plain["weights"] - decayed["weights"], lost, atol=1e-7)
