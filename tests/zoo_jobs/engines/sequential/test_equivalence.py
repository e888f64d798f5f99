"""The oracle trains every model of a population to the accuracy that plain PyTorch reaches with the same draws."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tests.support.plain_pytorch import plain_pytorch
from zooforge.zoo_jobs.engines.batches import pixels
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.models.torch_module import state_dict, torch_module

Made = Callable[..., Any]

NUM_MODELS, NUM_EPOCHS, NUM_TRAIN, NUM_TEST = 64, 6, 200, 500
MARGIN = 0.004  # two images of 500, for rounding of another torch build; seeds alone spread accuracies by 0.03


def test_64_models_over_6_epochs_are_as_accurate_as_those_of_plain_pytorch(population: Made, digits: Made) -> None:
    made = population(num_models=NUM_MODELS, learning_rate=0.003, weight_decay=0.001)
    data = digits(num_train=NUM_TRAIN, num_test=NUM_TEST)
    with SequentialEngine("cpu").open(made.program, made.hyperparameters, made.state, data) as session:
        for epoch in range(1, NUM_EPOCHS + 1):
            session.train_epoch(epoch, np.ones(NUM_MODELS, np.bool_))
        ours = session.evaluate("test").correct_P / NUM_TEST
    images = torch.from_numpy(pixels(data.pixel_values, data.test.images))
    plain = np.empty(NUM_MODELS)
    module = torch_module(made.program.architecture).eval()
    for model in range(NUM_MODELS):
        weights, _, _ = plain_pytorch(made, data, model, range(1, NUM_EPOCHS + 1))
        module.load_state_dict(state_dict(made.program.architecture, weights))
        with torch.no_grad():
            plain[model] = (module(images).argmax(1).numpy() == data.test.labels).mean()
    assert ours.mean() > 0.6
    assert ours.std() > 2 * MARGIN
    np.testing.assert_allclose(ours, plain, atol=MARGIN)
