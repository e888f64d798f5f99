"""A few damaged inputs for every reader; `make fuzz` tries as many as half an hour allows."""

from random import Random

import pytest

from tests.fuzz.__main__ import fault
from tests.fuzz.mutate import mutated
from tests.fuzz.target import Target
from tests.fuzz.targets import targets

NUM_INPUTS, NUM_STORES = 40, 6


@pytest.mark.parametrize("name", targets())
def test_damaged_bytes_give_a_value_or_one_of_our_errors_in_one_line(name: str) -> None:
    target, random = targets()[name], Random(f"quick {name}")
    number = NUM_STORES if name in ("zoo", "objects", "raw-tree") else NUM_INPUTS  # a whole store is read each time
    given = (data for data in (*target.seeds, *target.hostile) if len(data) < 10**6)
    assert [message for data in given if (message := fault(target, data))] == []
    assert [message for _ in range(number) if (message := fault(target, target.draw(random)))] == []


def test_an_unexpected_exception_is_a_finding() -> None:
    target = Target([b'{"a": [1, 2]}'], lambda data: data.decode().index("2"))
    random = Random(0)
    collected = {fault(target, mutated(target.seeds, random)) for _ in range(200)}
    assert any(text is not None and text.startswith("ValueError at tests/fuzz/test_fuzz.py") for text in collected)
