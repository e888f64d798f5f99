"""Run ids and digests of rows: they change with everything that can change a result, and with nothing else."""

import re
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.golden_digests import GOLDEN, golden, run_id, with_new_zoos
from tests.support.image_learners import SPEC as LEARNERS
from tests.support.zoo_specs import GOOD, changed
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.closed import Closed
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.publishing.describe import describe
from zooforge.zoo_jobs.spec.grid import ModelRow, rows
from zooforge.zoo_jobs.spec.overrides import with_overrides
from zooforge.zoo_jobs.spec.twins import twins_of
from zooforge.zoo_jobs.spec.zoo import ZooSpec

AXES = GOOD.to_json()["axes"]
RESNET: dict[str, Any] = {
    "architecture": "resnet18", "preprocessing": {"resize": 32, "mean": [0.1307], "std": [0.3081]}, "sparsify": None,
    "axes": AXES | {"activation": ["relu"], "dropout_ratio": [0.0]},
}  # fmt: skip
RESULT_CHANGES: list[dict[str, Any]] = [
    {"weight_decay_on": "kernels"},
    {"initializer_scale": 0.5},
    {"initial_bias": 0.0},
    {"dataset": "digits8", "preprocessing": {"resize": 28, "mean": [0.1307], "std": [0.3081]},
     "split": {"train": 1000, "val": 500, "test": 100, "seed": 42}},
    {"preprocessing": {"mean": [0.1307], "std": [0.308]}},
    {"split": {"train": 4000, "val": 500, "test": 500, "seed": 43}},
    {"augment": "crop-flip"},
    {"architecture": "cnn2"},
    {"axes": AXES | {"learning_rate": [0.002, 1e-4]}},
    {"axes": AXES | {"learning_rate": [1e-4, 0.001]}},
    {"seeds": "1:12"},
    {"seeds": "random", "seeds_per_cell": 10, "seed_salt": 0},
    {"seeds": "random", "seeds_per_cell": 10, "seed_salt": 1},
    {"momentum": 0.8},
    {"nesterov": True},
    {"batch_size": 11},
    {"schedule": "one-cycle"},
    {"schedule": "one-cycle", "num_epochs": 60},
    {"train_eval_epochs": [0, 50]},
    {"split_rule": {"group": "cell"}},
    {"split_rule": {"kind": "reference"}},
    {"draws": {"seed": 1, "num_models": 9} | {axis: values[0] for axis, values in AXES.items()}, "axes": None,
     "seeds": [1]},
    {"start": {"zoo": "mnist5k-cnn-s", "epoch": 1, "models": "0:8", "parent": GOOD.to_json()},
     "axes": AXES | {"initializer": ["uniform"]}, "sparsify": None},
    RESNET,
    RESNET | {"precision": "tf32"},
    RESNET | {"precision": "bf16"},
    RESNET | {"memory_format": "channels_last"},
]  # fmt: skip
OTHER_CHANGES: list[dict[str, Any]] = [
    {"name": "another-name"},
    {"description": "Another."},
    {"source": "another"},
    {"origin": "reference"},
    {"conflicts": ["one"]},
    {"num_epochs": 100},
    {"save_epochs": [0, 50]},
    {"commit_every": 5},
    {"extend": [{"activation": ["silu"]}]},
    {"sparsify": None},
    {"train_eval_epochs": [10, 20, 30, 40, 50]},
    {"expected_faulty_ratio": 0.5},
    {"compression": "delta-zstd"},
]


def test_the_run_id_changes_with_everything_that_can_change_a_result() -> None:
    ids = [GOOD.run_id] + [ZooSpec.from_json(changed(**fields)).run_id for fields in RESULT_CHANGES]
    ids += [ZooSpec.from_json(LEARNERS | {"steps_per_epoch": steps}).run_id for steps in (5, 6)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("fields", OTHER_CHANGES, ids=str)
def test_the_run_id_does_not_change_with_what_changes_no_result(fields: dict[str, Any]) -> None:
    assert ZooSpec.from_json(changed(**fields)).run_id == GOOD.run_id


def test_more_images_change_no_run_id() -> None:
    few, more = (ZooSpec.from_json(LEARNERS | {"image": image}) for image in ("0:3", "0:4"))
    assert few.run_id == more.run_id


def test_every_field_of_a_spec_is_known_to_change_a_result_or_not() -> None:
    names = {name for fields in RESULT_CHANGES + OTHER_CHANGES for name in fields}
    assert names | {"task", "image", "steps_per_epoch"} >= set(ZooSpec.model_fields) - {
        "reference",
        "reference_twins",
        "imported_seeds",
    }


def test_the_numerics_version_is_part_of_the_run_id(monkeypatch: pytest.MonkeyPatch) -> None:
    before, twins = GOOD.run_id, twins_of(GOOD).run_id
    for module in ("zoo", "twins"):
        monkeypatch.setattr(f"zooforge.zoo_jobs.spec.{module}.NUMERICS_VERSION", 10**6)
    later = ZooSpec.from_json(GOOD.to_json())
    assert later.run_id != before
    assert twins_of(later).run_id != twins


@pytest.mark.parametrize("name", GOLDEN)
def test_ids_and_rows_of_the_catalogue_are_those_of_earlier_versions(name: str) -> None:
    """A changed id orphans every run in every store: raise NUMERICS_VERSION only with numbers, and say so."""
    assert {spec.name: GOLDEN[name](spec) for spec in entries.load_all()} == golden(name)


def test_new_zoos_are_added_to_the_golden_files_and_others_are_not_changed() -> None:
    recorded = golden("run_ids.json")
    changed_id = dict(recorded) | {"mnist5k-cnn-s": "0" * 32}
    del changed_id["digits8-cnn-s"]
    assert with_new_zoos(changed_id, run_id) == recorded | {"mnist5k-cnn-s": "0" * 32}


def test_a_field_that_comes_later_moves_no_digest_of_a_row_or_spec_that_does_not_use_it() -> None:
    @dataclass(frozen=True, slots=True)
    class LaterRow(ModelRow):
        later: float = 0.0

    row = rows(GOOD)[0]
    values = {name: getattr(row, name) for name in ModelRow.__slots__}
    assert LaterRow(**values).digest == row.digest
    assert LaterRow(**values, later=0.1).digest != row.digest

    class Later(Closed):
        old: int = 1
        new: tuple[int, ...] = (2,)

    assert Later().digest_fields(always=["old"], if_set=["new"]) == {"old": 1}
    assert Later(new=(3,)).digest_fields(always=["old"], if_set=["new"]) == {"old": 1, "new": [3]}


def test_equal_rows_have_equal_digests_and_spellings_of_zero_are_one() -> None:
    value = changed()
    value["axes"]["dropout_ratio"] = [-0.0, 0.5]
    value["axes"]["learning_rate"] = [1e-3, 0.0001]
    again = ZooSpec.from_json(value)
    assert again.run_id == GOOD.run_id
    assert [row.digest for row in rows(again)[:9]] == [row.digest for row in rows(GOOD)[:9]]
    assert re.fullmatch("[0-9a-f]{16}", rows(GOOD)[0].digest)


def test_a_row_digest_covers_every_hyperparameter_and_the_seed_but_not_the_index() -> None:
    digests = [row.digest for row in rows(GOOD)]
    assert len(set(digests)) == len(digests)
    moved = ZooSpec.from_json(changed(seeds="0:10"))
    assert rows(moved)[256].digest == rows(GOOD)[0].digest


@pytest.mark.parametrize("setting", ["precision=bf16", "precision=tf32", "memory_format=channels_last"])
def test_arithmetic_is_part_of_the_identity_of_a_run_and_only_of_networks_that_can_have_it(setting: str) -> None:
    resnet = entries.load("cifar10-resnet18-seed")
    assert with_overrides(resnet, [setting], name="other").run_id != resnet.run_id
    assert "precision" not in resnet.run_content
    with pytest.raises(InputError, match="cnn-s is a layer list, which is not computed in"):
        with_overrides(entries.load("mnist5k-cnn-s"), [setting], name="other")


def test_the_bfloat16_sisters_differ_from_the_references_zoos_in_arithmetic_alone() -> None:
    for data in ("cifar10", "cifar100", "tiny-imagenet"):
        plain, sister = (entries.load(f"{data}-resnet18-seed{ending}") for ending in ("", "-bf16"))
        expected = {"precision": "bf16", "memory_format": "channels_last"}
        assert sister.run_content == plain.run_content | expected
        assert "Precision: trained and evaluated in bf16" in describe(sister).notes[-1]
        assert describe(plain).notes == plain.conflicts
