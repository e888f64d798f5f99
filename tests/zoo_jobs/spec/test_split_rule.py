"""The split of a zoo's models, from its YAML file to the published manifest."""

from pathlib import Path
from typing import Any

import pytest

from tests.support import acceptance_specs
from zooforge.storage.formats.splits import SplitRule
from zooforge.storage.ops.verify import verify_zoo
from zooforge.storage.zoo import open_zoo
from zooforge.zoo_jobs.catalogue.entries import load, load_file
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.spec.twins import twins_of
from zooforge.zoo_jobs.spec.zoo import ZooSpec

QUIET = ("--ray", "none", "--engine", "sequential", "--no-metrics", "--quiet")
AXES = {"activation": ["tanh"], "dropout_ratio": [0.0], "initializer": ["uniform", "normal"], "optimizer": ["sgd"],
        "learning_rate": [0.01], "weight_decay": [0.001, 0.0]}  # fmt: skip


def written(folder: Path, rule: Any) -> Path:
    """A file of 4 cells by 6 seeds."""
    return acceptance_specs.write(
        folder, axes=AXES, seeds="1:7", num_epochs=1, train_eval_epochs=[0], split_rule=rule,
        sparsify={"method": "magnitude", "sparsity_ratio": 0.5, "num_epochs": 1},
    )  # fmt: skip


@pytest.mark.parametrize("group", ["seed", "cell"])
def test_a_group_of_the_yaml_file_keeps_its_models_and_their_twins_in_one_split(group: str, tmp_path: Path) -> None:
    path, store = written(tmp_path, {"group": group}), str(tmp_path / "store")
    assert main(["run", str(path), "--store", store, *QUIET]) == 0
    zoo, twins = open_zoo(f"{store}/zoos/small"), open_zoo(f"{store}/zoos/small-magnitude-50")
    assert zoo.manifest.split == twins.manifest.split == SplitRule("hash", group=group)  # type: ignore[arg-type]
    table = zoo.model_table().to_pylist()
    groups: dict[Any, set[str]] = {}
    for row in table:
        key = row["seed"] if group == "seed" else (row["initializer"], row["weight_decay"])
        groups.setdefault(key, set()).add(row["split"])
    assert all(len(splits) == 1 for splits in groups.values())
    assert len({row["split"] for row in table}) == 3 or len(groups) < 5
    assert [row["split"] for row in twins.model_table().to_pylist()] == [row["split"] for row in table]


def test_the_shuffle_of_the_reference_is_reached_from_a_file(tmp_path: Path) -> None:
    path, store = written(tmp_path, {"kind": "reference"}), str(tmp_path / "store")
    assert main(["train", str(path), "--store", store, *QUIET, "--epochs", "0"]) == 0
    assert main(["vectorize", str(path), "--store", store]) == 0
    zoo = open_zoo(f"{store}/zoos/small")
    assert zoo.manifest.split == SplitRule("reference")
    assert zoo.manifest.split_counts == {"train": 16, "val": 3, "test": 5}
    assert verify_zoo(zoo).problems == ()


def test_the_rule_enters_the_run_id_only_where_it_is_not_the_default(tmp_path: Path) -> None:
    base = load("mnist5k-cnn-s")
    default = ZooSpec.from_json(base.to_json() | {"split_rule": {"kind": "hash", "group": None}})
    seeds = ZooSpec.from_json(base.to_json() | {"split_rule": {"group": "seed"}})
    assert default.run_id == base.run_id
    assert "split_rule" not in base.run_content
    assert seeds.run_content["split_rule"] == {"kind": "hash", "group": "seed"}
    assert len({base.run_id, seeds.run_id, twins_of(base).run_id, twins_of(seeds).run_id}) == 4
    assert load_file(written(tmp_path, {"kind": "reference"})).split_rule.kind == "reference"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"split_rule": {"kind": "hashed"}}, "did you mean 'hash'"),
        ({"split_rule": {"group": "cells"}}, "did you mean 'cell'"),
        ({"split_rule": {"kind": "reference", "group": "cell"}}, "group belongs to kind hash"),
        ({"split_rule": {"kind": "reference"}, "extend": [{"activation": ["silu"]}]}, "extend block would move models"),
    ],
)
def test_an_invalid_split_rule_is_refused_in_one_line(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ZooSpec.from_json(load("mnist5k-cnn-s").to_json() | fields, "my.yaml")
