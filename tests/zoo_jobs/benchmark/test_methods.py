"""Each method learns properties that the weights contain, and gives the same result again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.benchmark_samples import LAYOUT, samples
from tests.support.synthetic import RUN, description, train
from zooforge.storage.formats.layout import Layout
from zooforge.storage.formats.symmetry import augment_permute, chain_symmetries
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.open import open_store
from zooforge.storage.zoo import open_zoo
from zooforge.zoo_jobs.benchmark.comparison import Question, compare
from zooforge.zoo_jobs.benchmark.methods import plugin
from zooforge.zoo_jobs.benchmark.methods.equivariant import Equivariant, blocks_of
from zooforge.zoo_jobs.benchmark.methods.registry import FLOOR, METHODS
from zooforge.zoo_jobs.benchmark.samples import read_samples
from zooforge.zoo_jobs.benchmark.splits import split
from zooforge.zoo_jobs.errors import InputError

WITH_WEIGHTS = [name for name in METHODS if name != FLOOR]


def scored(name: str, target: str, kind: Any, metric: str, **made: Any) -> list[float]:
    seeds = [0, 1] if METHODS[name].quick else [0]  # networks take seconds for each
    here = samples(**made).without_hyperparameter(target)
    question = Question(target, kind, here, lambda seed: {"": split(here, "drawn", seed)})
    (result,), _ = compare([question], {name: METHODS[name].load()}, seeds, lambda _: None)
    return list(result.scores[metric])


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_a_method_learns_what_the_weights_contain_and_repeats_its_result(name: str) -> None:
    first = scored(name, "test_acc", "regression", "r2")
    assert min(first) > 0.7
    assert scored(name, "test_acc", "regression", "r2") == first


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_a_method_predicts_names(name: str) -> None:
    assert min(scored(name, "optimizer", "classification", "accuracy")) > 0.9


def test_the_floor_knows_hyperparameters_and_no_weights() -> None:
    assert max(scored(FLOOR, "test_acc", "regression", "r2")) < 0.3
    optimizer = np.array(["adam", "sgd"] * 60, object)
    told = samples(120, noise=10.0, optimizer=optimizer, test_acc=np.where(optimizer == "adam", 0.9, 0.2))
    question = Question("test_acc", "regression", told, lambda seed: {"": split(told, "drawn", seed)})
    (result,), _ = compare([question], {FLOOR: METHODS[FLOOR].load()}, [0], lambda _: None)
    assert result.scores["r2"][0] > 0.99


def test_the_floor_knows_hyperparameters_that_only_some_zoos_have(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    train(store, range(12), 2)
    plain = description(num_models=12, num_epochs=2)
    rows = {model: {**row, "train_fraction": [0.1, 1.0][model % 2]} for model, row in plain.rows.items()}
    vectorize(store, replace(plain, rows=rows), RUN)
    given = read_samples(open_zoo(tmp_path / "zoos/tiny-zoo")).given
    assert given.hyperparameters["train_fraction"].tolist() == [0.1, 1.0] * 6
    assert "initial_std" not in given.hyperparameters


def test_a_value_that_does_not_vary_in_training_is_predicted_as_it_is() -> None:
    for name in (FLOOR, "boosting", "linear-weights"):
        assert scored(name, "optimizer", "classification", "accuracy", optimizer=np.full(120, "adam", object)) == [1, 1]


def test_a_plugin_is_a_function_of_states_and_labels(tmp_path: Any) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def fit(states, labels):\n"
        "    assert states.values.shape == (len(labels), 41)\n"
        "    return lambda test: test.values[:, :12].mean(axis=1)\n"
        "def peek(states, labels):\n"
        "    return lambda test: test.labels()['test_acc'].to_numpy()\n"
        "def short(states, labels):\n"
        "    return lambda test: labels[:1]\n"
        "number = 3\n"
    )
    here = samples()
    question = Question("test_acc", "regression", here, lambda seed: {"": split(here, "drawn", seed)})

    def run(function: str) -> Any:
        name, fit = plugin.load_plugin(f"{file}:{function}")
        return compare([question], {name: fit}, [0], lambda _: None)[0][0]

    assert run("fit").method == "mine:fit" and run("fit").scores["r2"][0] > 0.9
    with pytest.raises(InputError, match=r"mine:peek: predict failed .*not read from a zoo, so they have no labels"):
        run("peek")
    with pytest.raises(InputError, match=r"predictions of shape \[1\], expected \[18\]"):
        run("short")
    for text, words in (
        ("mine.py", "expected FILE.py:FUNCTION"),
        (f"{tmp_path}/none.py:fit", "there is no file"),
        (f"{file}:number", "has no function number"),
    ):
        with pytest.raises(InputError, match=words):
            plugin.load_plugin(text)
    file.write_text("import does_not_exist\n")
    with pytest.raises(InputError, match="cannot be imported"):
        plugin.load_plugin(f"{file}:fit")


def test_the_equivariant_net_does_not_see_the_order_of_hidden_units() -> None:
    import torch

    torch.manual_seed(0)
    network = Equivariant(blocks_of(LAYOUT), 0, 2).double()
    values = samples(8).given.states.values
    permuted = augment_permute(values, LAYOUT, chain_symmetries(LAYOUT), seed=1)
    assert (values != permuted).any()
    none = torch.zeros(8, 0, dtype=torch.float64)
    one, other = (network(torch.from_numpy(v).double(), none) for v in (values, permuted))
    assert torch.allclose(one, other, rtol=1e-10) and not torch.allclose(one[:1], one[1:2])


def test_the_equivariant_method_says_that_it_needs_a_chain_of_layers() -> None:
    here = samples()
    layout = Layout.of([("conv1.weight", (3, 1, 2, 2)), ("bn1.weight", (3,)), ("linear1.weight", (2, 13))])
    given = replace(here.given, states=replace(here.given.states, layout=layout))
    question = Question(
        "test_acc", "regression", replace(here, given=given), lambda seed: {"": split(here, "drawn", seed)}
    )
    (result,), _ = compare([question], {"equivariant": METHODS["equivariant"].load()}, [0], lambda _: None)
    assert result.scores == {} and "chains of convolutions and linear layers" in result.note
