"""Sets of epochs, and the parts that epochs belong to."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from zooforge.zoo_jobs.spec.epochs import EpochSet, last_part, part_epochs, part_of


@given(st.lists(st.integers(0, 60)), st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9))))
def test_equal_sets_of_epochs_have_one_spelling(single: list[int], spans: list[tuple[int, int]]) -> None:
    items: list[Any] = [*single, *(f"{start}:{start + length}" for start, length in spans)]
    wanted = set(single) | {epoch for start, length in spans for epoch in range(start, start + length)}
    epochs = EpochSet.parse(items)
    assert set(epochs.below(100)) == wanted
    assert EpochSet.parse(sorted(wanted)).to_json() == epochs.to_json()
    assert EpochSet.parse(epochs.to_json()) == epochs


def test_epochs_are_written_as_people_write_them() -> None:
    assert EpochSet.parse(["0:3", "21:26", 50]).below(60) == (0, 1, 2, 21, 22, 23, 24, 25, 50)
    assert EpochSet.parse(["0:51:10"]).below(60) == (0, 10, 20, 30, 40, 50)
    assert 12345 in EpochSet.parse("all")
    assert EpochSet.parse("all").with_epoch_0() == EpochSet(None)
    assert EpochSet.parse([]).below(9) == ()


@given(st.integers(1, 9), st.integers(0, 99))
def test_parts_partition_epochs_and_end_at_multiples(commit_every: int, epoch: int) -> None:
    part = part_of(epoch, commit_every)
    assert epoch in part_epochs(part, commit_every)
    assert part_epochs(part, commit_every)[-1] == part * commit_every
    assert part_epochs(0, commit_every) == range(1)
    assert last_part(part * commit_every, commit_every) == part
