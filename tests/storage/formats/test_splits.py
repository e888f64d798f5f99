"""Splits depend only on the root ancestor and a seed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.synthetic import row
from zooforge.storage.formats.splits import SplitRule, assign_splits, position


@given(name=st.from_regex(r"[a-z]{1,10}", fullmatch=True), seed=st.integers(0, 2**31), count=st.integers(20, 60))
@settings(max_examples=60, deadline=None)
def test_no_split_is_empty_from_twenty_models_on(name: str, seed: int, count: int) -> None:
    splits = assign_splits(SplitRule(seed=seed), name, range(count), {}, count)
    assert set(splits) == {"train", "val", "test"}


@given(seed=st.integers(0, 100), models=st.permutations(list(range(40))), size=st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_the_split_of_a_model_depends_neither_on_order_nor_on_other_models(
    seed: int, models: list[int], size: int
) -> None:
    rule = SplitRule(seed=seed)
    whole = dict(zip(range(400), assign_splits(rule, "root", range(400), {}, 400), strict=True))
    some = models[:size]
    assert assign_splits(rule, "root", some, {}, 40) == [whole[m] for m in some]


def test_shares_are_about_70_15_15() -> None:
    splits = assign_splits(SplitRule(), "mnist-cnn-s-seed", range(10_000), {}, 10_000)
    assert splits.count("train") == pytest.approx(7000, abs=150)
    assert splits.count("val") == pytest.approx(1500, abs=120)


def test_the_first_splits_of_a_zoo_never_change() -> None:
    splits = assign_splits(SplitRule(), "mnist-cnn-s-seed", range(12), {}, 1000)
    assert "".join(s[0] if s != "test" else "x" for s in splits) == "xtxtttttvvtt"
    assert position(SplitRule(), "mnist-cnn-s-seed", 0) == 18_282_025_478_975_924_479


@pytest.mark.parametrize("group", ["seed", "cell"])
def test_groups_stay_together(group: str) -> None:
    rows = {m: row(m) for m in range(400)}
    splits = assign_splits(SplitRule(group=group), "root", range(400), rows, 400)
    by_group: dict[object, set[str]] = {}
    for model, split in enumerate(splits):
        value = rows[model]["seed"] if group == "seed" else (rows[model]["activation"], rows[model]["dropout_ratio"])
        by_group.setdefault(value, set()).add(split)
    assert all(len(splits) == 1 for splits in by_group.values())
    assert set(splits) == {"train", "val", "test"}


def test_the_reference_rule_gives_its_sizes_and_order() -> None:
    splits = assign_splits(SplitRule("reference"), "any", range(1000), {}, 1000)
    assert (splits.count("train"), splits.count("val"), splits.count("test")) == (700, 150, 150)
    assert [splits[m] for m in (776, 507, 895, 922, 33, 483, 85, 750, 354, 523)] == ["train"] * 10
