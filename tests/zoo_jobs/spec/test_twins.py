"""Specs of twins: names, run ids, rows."""

import json
from typing import Any

import pytest

from tests.support.zoo_specs import GOOD, changed
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.spec.blocks import SparsifySpec, validated
from zooforge.zoo_jobs.spec.grid import rows
from zooforge.zoo_jobs.spec.twins import TwinSpec, twins_of
from zooforge.zoo_jobs.spec.zoo import ZooSpec


def test_twins_are_named_after_method_and_source_epoch() -> None:
    assert twins_of(GOOD).name == "mnist5k-cnn-s-vd"
    assert twins_of(GOOD, source_epoch=6).name == "mnist5k-cnn-s-vd-e006"
    magnitude = SparsifySpec(method="magnitude", sparsity_ratio=0.9)
    assert twins_of(GOOD, magnitude).name == "mnist5k-cnn-s-magnitude-90"
    with pytest.raises(InputError, match="CNNs"):
        twins_of(entries.load("cifar10-resnet18-seed"))
    with pytest.raises(InputError, match="no `sparsify:` block"):
        twins_of(ZooSpec.from_json(changed(sparsify=None)))


def test_twins_of_another_epoch_method_or_parent_are_another_run() -> None:
    zoos = [
        twins_of(GOOD),
        twins_of(GOOD, source_epoch=6),
        twins_of(GOOD, SparsifySpec(method="magnitude", sparsity_ratio=0.9)),
        twins_of(GOOD, SparsifySpec(method="magnitude", sparsity_ratio=0.8)),
        twins_of(ZooSpec.from_json(changed(batch_size=20))),
    ]
    assert len({zoo.run_id for zoo in zoos} | {GOOD.run_id}) == 6
    longer = twins_of(GOOD, SparsifySpec(method="variational-dropout", num_epochs=50))
    assert longer.run_id == zoos[0].run_id


def test_twins_survive_json_and_have_their_parents_rows_without_decay_and_dropout() -> None:
    twins = twins_of(GOOD, source_epoch=6)
    assert TwinSpec.from_json(json.loads(json.dumps(twins.to_json()))) == twins
    with pytest.raises(InputError, match="a twin's spec"):
        TwinSpec.from_json({"parent": 3})
    for row, parent in zip(rows(twins), rows(GOOD), strict=True):
        assert (row.weight_decay, row.dropout_ratio) == (0.0, 0.0)
        for name in ("index", "optimizer", "learning_rate", "seed", "activation", "momentum"):
            assert getattr(row, name) == getattr(parent, name)


def test_choices_of_twins_enter_their_run_id_only_where_they_are_not_the_default() -> None:
    def twins(**fields: Any) -> TwinSpec:
        return twins_of(GOOD, validated(SparsifySpec, {"method": "variational-dropout", **fields}, "sparsify"))

    plain = twins()
    assert set(plain.run_content) == {"method", "sparsity_ratio", "parent_run", "source_epoch", "numerics_version"}
    assert twins(lambda_epochs=25, weight_decay=0).run_id == plain.run_id
    ids = {zoo.run_id for zoo in (plain, twins(lambda_epochs=10), twins(weight_decay="parent"))}
    assert len(ids) == 3
    kept = twins(weight_decay="parent")
    assert [row.weight_decay for row in rows(kept)] == [row.weight_decay for row in rows(GOOD)]
    assert {row.dropout_ratio for row in rows(kept)} == {0.0}
    assert TwinSpec.from_json(json.loads(json.dumps(kept.to_json()))) == kept
    with pytest.raises(InputError, match=r"weight_decay is 'parents'; did you mean 'parent'\? accepted: parent, 0"):
        twins(weight_decay="parents")
    with pytest.raises(InputError, match="lambda_epochs belongs to method variational-dropout"):
        validated(SparsifySpec, {"method": "magnitude", "sparsity_ratio": 0.5, "lambda_epochs": 3}, "sparsify")
