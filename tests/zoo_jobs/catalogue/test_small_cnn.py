"""The small CNN zoos after Unterthiner et al. 2020, and the fields that they needed."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from zooforge.storage.stores.memory import MemoryStore
from zooforge.zoo_jobs.catalogue.entries import load
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.publishing.describe import describe
from zooforge.zoo_jobs.running.inputs import Run
from zooforge.zoo_jobs.spec.grid import rows
from zooforge.zoo_jobs.spec.zoo import ZooSpec

NAMES = ("small-cnn-fashion-mnist", "small-cnn-mnist", "small-cnn-cifar10-gray", "small-cnn-svhn-gray")
BASE = load("mnist5k-cnn-s").to_json()


@pytest.mark.parametrize("name", NAMES)
def test_a_small_cnn_has_one_channel_4970_parameters_and_the_published_training(name: str) -> None:
    zoo = load(name)
    network = zoo.network("relu", dropout=True)
    assert (zoo.in_channels, network.layout.size) == (1, 4970)
    assert (zoo.batch_size, zoo.num_epochs, zoo.split.val) == (512, 86, 0)
    assert zoo.weight_decay_on == "kernels" and zoo.initial_bias == 0
    assert (zoo.preprocessing.mean, zoo.preprocessing.std) == ((0.5,), (0.5,))  # pixels from -1 to 1
    assert any("Ranges" in conflict and "invariant_explanations" in conflict for conflict in zoo.conflicts)
    assert not any(program.decays_biases for program in Run(zoo).programs())


def test_numbers_are_drawn_from_the_published_ranges_and_reach_both_ends() -> None:
    table = rows(load(NAMES[0]))
    assert {row.activation for row in table} == {"relu", "tanh"}
    assert {row.optimizer for row in table} == {"adam", "sgd", "rmsprop"}
    free = [row.initial_std for row in table if row.initializer in ("normal", "truncated_normal")]
    drawn = {
        "learning rate": ([row.learning_rate for row in table], 5e-4, 5e-2),
        "l2": ([row.weight_decay / 2 for row in table], 1e-8, 1e-2),
        "initial std": (free, 1e-3, 0.5),
    }
    for name, (values, low, high) in drawn.items():
        assert low <= min(values) < 1.1 * low and high / 1.1 < max(values) <= high, name
        assert abs(np.log(values).mean() - np.log(low * high) / 2) < 0.1 * np.log(high / low), name
    dropout = [row.dropout_ratio for row in table]
    assert min(dropout) < 0.01 and 0.69 < max(dropout) < 0.7 and abs(np.mean(dropout) - 0.35) < 0.02


def test_model_i_of_the_four_zoos_has_the_same_hyperparameters_and_another_seed() -> None:
    drawn = [[(r.optimizer, r.learning_rate, r.train_fraction) for r in rows(load(name))] for name in NAMES]
    assert all(other == drawn[0] for other in drawn)
    assert len({rows(load(name))[0].seed for name in NAMES}) == len(NAMES)
    table = rows(load(NAMES[0]))
    assert set(Counter(row.train_fraction for row in table)) == {0.1, 0.25, 0.5, 1.0}
    free = [row.initial_std for row in table if row.initializer in ("normal", "truncated_normal")]
    assert len(set(free)) == len(free)
    assert {row.initial_std for row in table if row.initializer not in ("normal", "truncated_normal")} == {1.0}
    described = describe(load(NAMES[0])).rows[0]
    assert {"train_fraction", "initial_std"} <= set(described) and "label_noise" not in described


def changed(**changes: Any) -> ZooSpec:
    return ZooSpec.from_json(BASE | {"name": "mine"} | changes, "mine.yaml")


def test_decay_of_kernels_and_initial_std_enter_digests_only_if_used() -> None:
    assert changed().run_id == changed(weight_decay_on="all").run_id != changed(weight_decay_on="kernels").run_id
    axes = BASE["axes"] | {"initializer": ["normal", "truncated_normal"]}
    plain, one = changed(axes=axes), changed(axes=axes | {"initial_std": [1.0]})
    assert plain.run_id == one.run_id and rows(plain)[0].digest == rows(one)[0].digest
    assert changed(axes=axes | {"initial_std": [0.1]}).run_id != plain.run_id


def test_initial_std_scales_the_weights_and_not_the_biases() -> None:
    axes = BASE["axes"] | {"initializer": ["normal"], "initial_std": [1.0, 0.1], "dropout_ratio": [0.0]}
    run = Run(changed(axes=axes))
    models = [next(row.index for row in run.rows if row.initial_std == std) for std in (1.0, 0.1)]
    assert run.rows[models[0]].seed == run.rows[models[1]].seed
    state = run.first_state(models, MemoryStore())
    tensors = run.program(run.rows[0].family).architecture.layout.unflatten(state["weights"])
    for name, (whole, tenth) in tensors.items():
        np.testing.assert_allclose(tenth, whole * (0.1 if name.endswith(".weight") else 1), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"axes": BASE["axes"] | {"initial_std": [0.1]}},
            "initial_std belongs to normal and truncated_normal; uniform",
        ),
        ({"axes": BASE["axes"] | {"initial_std": [0.0]}}, "axes.initial_std[0] is 0.0"),
        ({"weight_decay_on": "weights"}, "weight_decay_on is 'weights'; accepted: all, kernels"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        changed(**changes)
    assert message in str(refused.value) and "\n" not in str(refused.value)
