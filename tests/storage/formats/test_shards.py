"""Ranges of models and epochs in a manifest, and chains of compressed tensors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zooforge.storage.errors import FormatError
from zooforge.storage.formats.shards import (
    ShardEntry,
    TensorEntry,
    check_chains,
    count_ranges,
    first_outside,
    group_rows,
    ranges_from_json,
    ranges_to_json,
    to_ranges,
)
from zooforge.storage.formats.tensors import tensor_name
from zooforge.storage.stores.objects import ref_of

NUMBERS = st.sets(st.integers(0, 30))


@given(NUMBERS, NUMBERS)
def test_the_first_number_outside_of_other_ranges_is_found(numbers: set[int], within: set[int]) -> None:
    first = min(numbers - within, default=None)
    assert first_outside(to_ranges(sorted(numbers)), to_ranges(sorted(within))) == first


@given(NUMBERS)
def test_ranges_survive_json_and_count_their_numbers(numbers: set[int]) -> None:
    ranges = to_ranges(sorted(numbers))
    assert ranges_from_json(ranges_to_json(ranges)) == ranges
    assert count_ranges(ranges) == len(numbers)


@pytest.mark.parametrize(("base", "models", "fits"), [(1, [0, 1], True), (1, [0], False), (0, [0, 1], False)])
def test_a_difference_follows_the_epoch_before_it_with_as_many_rows(base: int, models: list[int], fits: bool) -> None:
    rows = group_rows({0: [0, 1], 1: models, 2: [0, 1]})
    digest = "0" * 64
    tensors = {tensor_name(epoch): TensorEntry(0, 1, digest, None, digest) for epoch in (0, 1)}
    tensors[tensor_name(2)] = TensorEntry(0, 1, digest, base, digest)
    shard = ShardEntry(ref_of(b"shard", "safetensors"), 0, 0, rows, tensors)
    if fits:
        check_chains(shard, [0, 1, 2], "manifest")
    else:
        with pytest.raises(FormatError, match=f"cannot follow epoch {base}"):
            check_chains(shard, [0, 1, 2], "manifest")
