"""Variational dropout: the values of the reference, and the twins of `sequential` compared with double precision."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from tests.support.gaussian_noise import gaussians
from zooforge.zoo_jobs.engines.batches import pixels
from zooforge.zoo_jobs.engines.contract import LOG_SIGMA2_START, noisy_layout
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.engines.sequential.layer_list_model import LayerListModel
from zooforge.zoo_jobs.models.layers import Activation, Architecture, Conv2d, Flatten, Linear, MaxPool2d
from zooforge.zoo_jobs.sparsify import variational_dropout as vd
from zooforge.zoo_jobs.sparsify.kl_schedule import kl_weight

Made = Callable[..., Any]


@pytest.mark.parametrize(("log_alpha", "kl"), [(-10, 5.6358), (-8, 4.6359), (0, 0.431239), (3, 0.02542), (8, 0.000168)])
def test_the_kl_term_has_the_values_of_the_reference(log_alpha: float, kl: float) -> None:
    actual = vd.kl_from_log_uniform(torch.tensor([float(log_alpha)], dtype=torch.float64)).item()
    assert math.isclose(actual, kl, rel_tol=3e-3 if kl < 0.001 else 5e-5)


@given(st.floats(-10, 10), st.floats(0.01, 1))
def test_the_kl_term_is_non_negative_and_decreases(log_alpha: float, more: float) -> None:
    kl = vd.kl_from_log_uniform(torch.tensor([log_alpha, log_alpha + more], dtype=torch.float64))
    assert kl[0] > kl[1] > 0


def test_the_kl_term_is_the_formula_of_the_reference() -> None:
    a = torch.linspace(-10, 10, 201, dtype=torch.float64)
    expected = -(vd.K1 * torch.sigmoid(vd.K2 + vd.K3 * a) - 0.5 * torch.log(1 + torch.exp(-a)) - vd.K1)
    torch.testing.assert_close(vd.kl_from_log_uniform(a), expected, rtol=1e-9, atol=1e-12)


def test_lambda_starts_at_zero_and_grows_by_four_ten_thousandths() -> None:
    assert kl_weight(1) == 0
    assert [round(kl_weight(k), 10) for k in (2, 3, 25)] == [4e-4, 8e-4, 0.0096]
    assert kl_weight(0) == -0.0004
    assert kl_weight(10_000) == 1
    assert [round(kl_weight(k, lambda_epochs=10), 10) for k in (2, 10)] == [
        1e-3,
        9e-3,
    ]  # the reference's with 10 epochs


def test_a_value_is_pruned_from_three_inclusive() -> None:
    log_alpha = torch.tensor([math.nextafter(3.0, 0.0), 3.0, 8.0, -8.0], dtype=torch.float64)
    assert vd.pruned(log_alpha).tolist() == [False, True, True, False]


def test_at_the_start_values_up_to_0_0015_are_pruned() -> None:
    threshold = math.exp(-6.5)
    assert round(threshold, 4) == 0.0015
    values = torch.tensor([threshold * 0.999, threshold * 1.001, -threshold * 0.999, 0.0])
    log_alpha = vd.log_alpha(torch.full((4,), LOG_SIGMA2_START), values, torch.full((4,), 8.0))
    assert vd.pruned(log_alpha).tolist() == [True, False, True, True]


def test_log_alpha_stays_within_the_clamp_of_its_layer() -> None:
    values = torch.tensor([100.0, 1e-9, 100.0, 1e-9])
    clamp = torch.tensor([vd.CONV_CLAMP, vd.CONV_CLAMP, vd.LINEAR_CLAMP, vd.LINEAR_CLAMP])
    values_given = vd.log_alpha(torch.full((4,), LOG_SIGMA2_START), values, clamp)
    assert values_given.tolist() == [-8.0, 8.0, -10.0, 10.0]


def test_sparsity_counts_weights_of_2416_and_masks_biases_of_convolutions_too(population: Made, digits: Made) -> None:
    made = population(variational=True, num_models=2)
    layout = noisy_layout(made.program.architecture)
    assert [e.name for e in layout.entries][-2:] == ["linear1.weight", "linear2.weight"]
    log_sigma2 = layout.unflatten(made.state["log_sigma2"])
    log_sigma2["conv1.bias"][0] = 10.0
    log_sigma2["linear2.weight"][0, :3] = 10.0
    with SequentialEngine("cpu").open(made.program, made.hyperparameters, made.state, digits()) as session:
        sparsity = session.sparsity()
    mask = layout.unflatten(sparsity.mask_PV)
    small = np.abs(made.state["weights"]) <= 0.0015
    weights = made.program.architecture.layout.unflatten(small)
    started = sum(int(v[0].sum()) for name, v in weights.items() if name.endswith("weight"))
    extra = 60 - int(weights["linear2.weight"][0, :3].sum())
    assert sparsity.num_prunable == 2_416
    assert sparsity.num_pruned_P[0] == started + extra
    assert mask["conv1.bias"][0].all()
    assert not mask["conv1.bias"][1].any()
    assert mask["linear2.weight"][0, :3].all()
    assert mask.keys() == {e.name for e in layout.entries}


def in_double(
    architecture: Architecture, values: torch.Tensor, images: torch.Tensor, labels: torch.Tensor, seed: int, epoch: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss with its KL term and cross-entropy alone, layer by layer as section 5 of the reference states them."""
    tensors = {e.name: values[e.offset : e.stop].view(e.shape) for e in architecture.layout.entries}
    spread = values[architecture.layout.size :]
    log_sigma2 = {e.name: spread[e.offset : e.stop].view(e.shape) for e in noisy_layout(architecture).entries}
    kl = values.new_zeros(())

    def alpha(name: str, limit: float) -> torch.Tensor:
        nonlocal kl
        a = torch.clamp(log_sigma2[name] - 2 * torch.log(tensors[name].abs() + 1e-15), -limit, limit)
        kl = kl - (0.63576 * torch.sigmoid(1.8732 + 1.48695 * a) - 0.5 * torch.log1p(torch.exp(-a)) - 0.63576).sum()
        return torch.exp(a)

    ordinal = 0
    x = images
    for index, layer in enumerate(architecture.layers):
        if isinstance(layer, Conv2d | Linear):
            name = architecture.parametric[ordinal].name
            w, b = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
            shape = architecture.shapes[index + 1]
            noise = torch.from_numpy(
                gaussians(seed, epoch=epoch, step=0, layer=ordinal, num_samples=len(x),
                                 num_values=math.prod(shape))
            ).double().view(len(x), *shape)  # fmt: skip
            if isinstance(layer, Conv2d):
                w2, b2 = alpha(f"{name}.weight", 8) * w**2, alpha(f"{name}.bias", 8) * b**2
                x = F.conv2d(x, w, b) + torch.sqrt(F.conv2d(x**2, w2, b2) + 1e-15) * noise
            else:
                w2 = alpha(f"{name}.weight", 10) * w**2
                x = x @ w.T + torch.sqrt(x**2 @ w2.T + 1e-15) * noise + b
            ordinal += 1
        elif isinstance(layer, MaxPool2d):
            x = F.max_pool2d(x, 2)
        elif isinstance(layer, Activation):
            x = getattr(F, layer.name)(x)
        elif isinstance(layer, Flatten):
            x = x.flatten(1)
    cross_entropy = F.cross_entropy(x, labels)
    return cross_entropy + kl_weight(epoch) * kl, cross_entropy


@pytest.mark.parametrize(("name", "channels"), [("cnn-s", 1), ("cnn-s", 3), ("cnn2", 1), ("cnn-l", 3)])
@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_gradients_of_a_twin_are_those_of_double_precision(
    name: str, channels: int, activation: str, population: Made, digits: Made
) -> None:
    made = population(name, channels, activation=activation, variational=True, num_models=1)
    architecture = made.program.architecture
    data = digits(channels, architecture.image_size)
    rng = np.random.default_rng(1)
    log_sigma2 = rng.uniform(-9, -1, made.state["log_sigma2"].shape[1]).astype(np.float32)
    values = torch.from_numpy(np.concatenate([made.state["weights"][0], log_sigma2]))
    images = torch.from_numpy(pixels(data.pixel_values, data.train.images[:10]))
    labels = torch.from_numpy(data.train.labels[:10].astype(np.int64))
    seed, epoch = 1, 20
    model = LayerListModel(made.program, torch.device("cpu"))
    leaf = model.bind({"values": values.clone()})
    (draws,) = model.draw(seed, 0.0, epoch, 0, [10])
    total, loss, _ = model.training_loss(images, labels, draws, kl_weight(epoch))
    total.backward()
    exact = values.double().requires_grad_()
    exact_total, exact_loss = in_double(architecture, exact, images.double(), labels, seed, epoch)
    exact_total.backward()
    np.testing.assert_allclose(total.item(), exact_total.item(), rtol=1e-5)
    np.testing.assert_allclose(loss.item(), exact_loss.item(), rtol=1e-5)
    assert leaf.grad is not None and exact.grad is not None
    scale = exact.grad.abs().max().item()
    np.testing.assert_allclose(leaf.grad, exact.grad, rtol=2e-3, atol=2e-5 * scale)


def test_a_twin_is_evaluated_without_noise_and_without_what_is_pruned(population: Made, digits: Made) -> None:
    made = population(variational=True, num_models=1)
    layout = made.program.architecture.layout
    masked = made.state["weights"].copy()
    mask = layout.unflatten(np.zeros_like(masked, dtype=bool))
    spread = noisy_layout(made.program.architecture).unflatten(made.state["log_sigma2"])
    for name, rows in (("conv1.weight", [0]), ("conv2.bias", [1]), ("linear1.weight", [3, 4])):
        spread[name][0, rows] = 20.0
        mask[name][0, rows] = True
    small = np.abs(masked) <= math.exp(-6.5)
    linear_bias = layout.unflatten(np.zeros_like(small))
    for name, values in linear_bias.items():
        values[...] = not (name.startswith("linear") and name.endswith("bias"))
    pruned = np.concatenate([v.reshape(1, -1) for v in mask.values()], axis=1)
    keep = np.concatenate([v.reshape(1, -1) for v in linear_bias.values()], axis=1)
    masked[pruned | (small & keep)] = 0
    dense = population(num_models=1)
    dense.state["weights"] = masked
    data = digits()
    with SequentialEngine("cpu").open(made.program, made.hyperparameters, made.state, data) as session:
        twin = session.evaluate("test")
    with SequentialEngine("cpu").open(dense.program, dense.hyperparameters, dense.state, data) as session:
        plain = session.evaluate("test")
    assert twin.loss_sum_P.tobytes() == plain.loss_sum_P.tobytes()
    assert np.array_equal(twin.correct_P, plain.correct_P)


def test_running_losses_of_a_twin_leave_the_kl_term_out(population: Made, digits: Made) -> None:
    made = population(variational=True, num_models=1, learning_rate=0.0, weight_decay=0.0)
    everyone = np.ones(1, np.bool_)
    with SequentialEngine("cpu").open(made.program, made.hyperparameters, made.state, digits()) as session:
        late = session.train_epoch(25, everyone)
        sparsity = session.sparsity()
    assert sparsity.kl_P[0] > 1000
    assert late.loss_sum_P[0] / late.num_samples_P[0] < 10


def test_twins_prune_more_from_epoch_to_epoch(population: Made, digits: Made) -> None:
    made = population(variational=True, num_models=1, learning_rate=0.01, weight_decay=0.0)
    pruned = []
    with SequentialEngine("cpu").open(made.program, made.hyperparameters, made.state, digits(num_train=400)) as session:
        for epoch in (1, 100, 101, 102):
            session.train_epoch(epoch, np.ones(1, np.bool_))
            pruned.append(int(session.sparsity().num_pruned_P[0]))
    assert pruned == sorted(pruned)
    assert pruned[-1] > 2 * pruned[0]
