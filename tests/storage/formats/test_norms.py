"""Norms of weight vectors have the same bits on every machine and in every engine."""

import math

import numpy as np
import pytest

from zooforge.storage.formats import norms
from zooforge.storage.formats.norms import weight_norms


def by_hand(values: list[float]) -> float:
    """The rule of docs/format.md, one number after the other."""
    squares = [value * value for value in values]
    while len(squares) > 1:
        half = 1 << (len(squares) - 1).bit_length() - 1
        rest = squares[half:]
        squares = [one + rest[i] if i < len(rest) else one for i, one in enumerate(squares[:half])]
    return math.sqrt(squares[0])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 1000, 2464])
def test_the_sum_is_the_documented_one(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(size).standard_normal((5, size)).astype(np.float32)
    found, largest = weight_norms(rows)
    assert found.tolist() == [by_hand([float(v) for v in row]) for row in rows]
    assert largest.tolist() == [float(np.abs(row).max()) for row in rows]
    assert np.allclose(found, np.linalg.norm(rows.astype(np.float64), axis=1), rtol=1e-14)
    monkeypatch.setattr(norms, "BLOCK_VALUES", 2 * size)
    assert np.array_equal(weight_norms(rows)[0], found)


def test_rows_that_are_not_finite_have_no_finite_norm() -> None:
    found, largest = weight_norms(np.array([[1, np.nan], [np.inf, 2], [3, 4]], np.float32))
    assert np.isfinite(found).tolist() == np.isfinite(largest).tolist() == [False, False, True]
    assert found[2] == 5
    assert [len(part) for part in weight_norms(np.zeros((0, 3), np.float32))] == [0, 0]
