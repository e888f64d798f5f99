"""Weight decay that leaves biases as they are, in every engine."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.rounding import same_to_rounding
from zooforge.zoo_jobs.data.prepared import PreparedData
from zooforge.zoo_jobs.engines.batches import training_blocks
from zooforge.zoo_jobs.engines.choose import make_engine
from zooforge.zoo_jobs.engines.contract import Engine, StateArrays, decayed
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.engines.stacked import StackedEngine
from zooforge.zoo_jobs.models.torch_module import torch_module

Made = Callable[..., Any]
OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}


def trained(engine: Engine, made: Any, data: PreparedData) -> StateArrays:
    with engine.open(made.program, made.hyperparameters, made.state, data) as session:
        session.train_epoch(1, np.ones(len(made.state["step"]), np.bool_))
        return session.state()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_kernels_decay_as_in_a_parameter_group_of_torch_and_biases_do_not(
    optimizer: str, population: Made, digits: Made
) -> None:
    made = population(optimizer=optimizer, num_models=2, weight_decay=0.5, learning_rate=5e-4, momentum=0.0)
    whole = trained(SequentialEngine("cpu"), made, digits())
    made.program = replace(made.program, decays_biases=False)
    assert decayed(made.program).sum() == sum(e.size for e in made.program.architecture.layout if len(e.shape) > 1)
    expected = trained(SequentialEngine("cpu"), made, digits())
    assert np.abs(whole["weights"] - expected["weights"]).max() > 1e-5
    for engine in (StackedEngine("cpu"), make_engine("lanes")):
        if engine.refuses(made.program) is None:
            found = trained(engine, made, digits())  # without momentum, lanes keeps the gradient in its buffer
            same_to_rounding({"weights": expected["weights"]}, {"weights": found["weights"]})

    module = torch_module(made.program.architecture)
    tensors = made.program.architecture.layout.unflatten(made.state["weights"][:1].copy())
    names = made.program.architecture.state_dict_names
    module.load_state_dict({names[name]: torch.from_numpy(values[0]) for name, values in tensors.items()})
    groups = [[p for p in module.parameters() if (p.dim() > 1) == kernels] for kernels in (True, False)]
    plain = OPTIMIZERS[optimizer](
        [{"params": groups[0], "weight_decay": 0.5}, {"params": groups[1], "weight_decay": 0.0}], lr=5e-4
    )
    for block in training_blocks(digits(), 1, 1, 10, None):
        images, labels = torch.from_numpy(block.images), torch.from_numpy(block.labels)
        for batch, told in zip(images.split(10), labels.split(10), strict=True):
            plain.zero_grad()
            torch.nn.functional.cross_entropy(module(batch), told).backward()
            plain.step()
    state = module.state_dict()
    flat = np.concatenate([state[names[e.name]].numpy().ravel() for e in made.program.architecture.layout])
    same_to_rounding({"weights": flat[None]}, {"weights": expected["weights"][:1]})


def test_twins_decay_their_variances_and_no_biases(population: Made, digits: Made) -> None:
    made = population(variational=True, num_models=2, weight_decay=0.5, optimizer="sgd", learning_rate=5e-4)
    made.program = replace(made.program, decays_biases=False)
    expected = trained(SequentialEngine("cpu"), made, digits())
    for engine in (StackedEngine("cpu"), make_engine("lanes")):
        if engine.refuses(made.program) is None:
            found = trained(engine, made, digits())
            for name in ("weights", "log_sigma2"):
                same_to_rounding({name: expected[name]}, {name: found[name]})
