"""Weights become torch modules, one by one or many at once, and modules become weights again."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.support.module_zoo import module_zoo
from tests.support.residual_zoo import residual_module, residual_zoo
from tests.support.synthetic import LAYOUT, copy_zoo, weights
from zooforge.storage.errors import EpochNotKept, FormatError, StorageUsageError
from zooforge.storage.stores.local import LocalStore
from zooforge.storage.zoo import Zoo, open_zoo


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    store = LocalStore(tmp_path_factory.mktemp("store"))
    copy_zoo(module_zoo(), "tiny-zoo", store)
    return open_zoo(f"{store.url}/zoos/tiny-zoo")


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    store = LocalStore(tmp_path_factory.mktemp("store"))
    copy_zoo(residual_zoo(), "narrow", store)
    return open_zoo(f"{store.url}/zoos/narrow")


def images(size: int = 5) -> Any:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((4, 1, size, size)).astype(np.float32))


@torch.no_grad()
def test_a_stack_computes_what_its_modules_compute(zoo: Zoo) -> None:
    """Models 1 and 5 have a dropout layer, so that their modules number the last layer otherwise."""
    stack = zoo.stacked_modules([5, 1, 4, 0], where="activation == 'tanh'")
    assert stack.models.tolist() == [5, 1, 4, 0] and stack.epochs.tolist() == [3] * 4 and len(stack) == 4
    assert not stack.module.training and stack.buffers == {}
    logits = stack(images())
    assert logits.shape == (4, 4, 3)
    for row, model in enumerate(stack.models.tolist()):
        torch.testing.assert_close(logits[row], zoo.module(model)(images()))
        params = {name: values[row] for name, values in stack.params.items()}
        torch.testing.assert_close(torch.func.functional_call(stack.module, params, images()), logits[row])
    torch.testing.assert_close(stack(images(), chunk_size=3), logits)


def test_a_stack_has_the_keys_of_torch_and_can_be_trained(zoo: Zoo) -> None:
    stack = zoo.stacked_modules([0, 4], 1)
    params, buffers = torch.func.stack_module_state([zoo.module(0, 1), zoo.module(4, 1)])  # type: ignore[arg-type]
    assert list(stack.params) == list(params) and stack.buffers == buffers
    for name, values in params.items():
        assert torch.equal(stack.params[name], values.detach())
        stack.params[name].requires_grad_()
    loss = stack(images()).square().sum()
    gradients = torch.autograd.grad(loss, list(stack.params.values()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    assert np.array_equal(zoo.from_state_dict(stack.params), np.stack([weights(0, 1), weights(4, 1)]))


def test_models_with_different_activations_cannot_be_stacked(zoo: Zoo) -> None:
    with pytest.raises(StorageUsageError, match=r"activations relu, tanh are no one network.*where="):
        zoo.stacked_modules([0, 2])
    with pytest.raises(StorageUsageError, match="no state matches"):
        zoo.stacked_modules(where="test_acc > 2")
    with pytest.raises(EpochNotKept):
        zoo.stacked_modules([0], 2)


@pytest.mark.parametrize("model", [0, 1])
def test_a_state_dict_becomes_the_weights_it_was_made_from(zoo: Zoo, model: int) -> None:
    own = weights(model, 1)
    assert np.array_equal(zoo.from_state_dict(zoo.state_dict(model, 1)), own)
    assert np.array_equal(zoo.from_state_dict(zoo.module(model, 1).state_dict()), own)
    assert np.array_equal(zoo.from_state_dict(dict(zoo.module(model, 1).named_parameters())), own)
    assert np.array_equal(zoo.from_state_dict(zoo[model, 1].unflatten()), own)
    assert np.array_equal(zoo.from_state_dict(zoo.weights(models=[model]).unflatten()), zoo[model].values)
    state = zoo.state_dict(model, 1)
    with pytest.raises(FormatError, match="no state dict of its networks"):
        zoo.from_state_dict(dict(list(state.items())[:3]))
    with pytest.raises(FormatError, match=r"conv1\.bias has shape"):
        zoo.from_state_dict({**LAYOUT.unflatten(own), "conv1.bias": np.zeros(3)})


@torch.no_grad()
def test_a_resnet_is_built_with_its_running_statistics(residual: Zoo) -> None:
    for model in range(3):
        module = residual.module(model, 0)
        expected = residual_module(model)
        assert {n: t.tolist() for n, t in module.state_dict().items()} == {
            n: t.tolist() for n, t in expected.state_dict().items()
        }
        torch.testing.assert_close(module(images(8)), expected(images(8)))
    stack = residual.stacked_modules([2, 0], 0)
    assert stack.buffers["bn1.num_batches_tracked"].tolist() == [9, 7]
    expected_logits = torch.stack([residual_module(2)(images(8)), residual_module(0)(images(8))])
    torch.testing.assert_close(stack(images(8)), expected_logits)


@torch.no_grad()
def test_a_generated_resnet_needs_running_statistics(residual: Zoo) -> None:
    vector = residual.from_state_dict(residual_module(1).state_dict())
    assert np.array_equal(vector, residual[1, 0])
    with pytest.raises(StorageUsageError, match=r'zoo\.field\("buffers", models=1'):
        residual.to_module(vector, 1)
    buffers = residual.field("buffers", models=1, epochs=-1)[0][0]
    torch.testing.assert_close(residual.to_module(vector, 1, buffers)(images(8)), residual_module(1)(images(8)))


def test_gradients_go_from_logits_to_tokens(zoo: Zoo) -> None:
    fitted = zoo.standardizer()
    states = zoo.weights(models=[3, 2], epochs=1)
    tokens = torch.from_numpy(zoo.tokenize(fitted.apply(states.values))[0]).requires_grad_()
    vectors = fitted.invert(zoo.detokenize(tokens))
    torch.testing.assert_close(vectors.detach(), states.torch())
    stack = zoo.to_stacked_modules(vectors, 1)
    stack(images()).square().sum().backward()
    mask = torch.from_numpy(zoo.tokenize(states)[1])
    assert tokens.grad is not None and (tokens.grad[~mask] == 0).all()
    given = torch.from_numpy(states.values).requires_grad_()
    zoo.to_stacked_modules(given, 1)(images()).square().sum().backward()
    assert given.grad is not None and given.grad.abs().max() > 0
    expected = zoo.tokenize(fitted.deviation * given.grad.numpy())[0]
    torch.testing.assert_close(tokens.grad, torch.from_numpy(expected))


@torch.no_grad()
def test_a_stack_has_memory_of_its_own(zoo: Zoo) -> None:
    vectors = zoo.weights(models=[3, 2], epochs=1).torch()
    before = vectors.clone()
    for tensor in zoo.to_stacked_modules(vectors, 1).params.values():
        tensor.zero_()
    assert torch.equal(vectors, before)


@torch.no_grad()
def test_vectors_that_are_not_stored_states_can_be_stacked(zoo: Zoo, residual: Zoo) -> None:
    vectors = torch.from_numpy(np.stack([weights(model, 1) for model in (3, 2)])) * 0.5
    stack = zoo.to_stacked_modules(vectors.requires_grad_(), 1)  # a tanh network with dropout
    assert stack.models.tolist() == stack.epochs.tolist() == [-1, -1]
    for row in range(2):
        torch.testing.assert_close(stack(images())[row], zoo.to_module(vectors[row], 0)(images()))
    with pytest.raises(FormatError, match="vectors of 36 values, the layout has 37"):
        zoo.to_stacked_modules(vectors[:, 1:], 0)
    states = residual.weights(models=[2, 1])
    with pytest.raises(StorageUsageError, match=r'zoo\.field\("buffers", models=1'):
        residual.to_stacked_modules(states, 1)
    buffers = residual.field("buffers", models=[2, 1])[0]
    actual = residual.to_stacked_modules(states, 1, buffers)(images(8))
    torch.testing.assert_close(actual, residual.stacked_modules([2, 1], 0)(images(8)))
