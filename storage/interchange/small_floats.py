"""bfloat16 and 8-bit floats, which numpy lacks, as float32: exact. Pure numpy.

Source: OCP 8-bit floating point specification (2023); the ``fnuz`` variants are those of arXiv:2206.02915.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def bfloat16(values: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The upper halves of float32 values."""
    return (values.astype("<u4") << np.uint32(16)).view("<f4")


@lru_cache
def _table(exponent_bits: int, mantissa_bits: int, bias: int, kind: str) -> NDArray[np.float32]:
    """The 256 values. ``kind``: ieee, fn (one NaN, no infinity), or fnuz (as fn, and no negative zero)."""
    codes = np.arange(256)
    mantissa, exponent = codes & (2**mantissa_bits - 1), codes >> mantissa_bits & (2**exponent_bits - 1)
    normal = (2**mantissa_bits + mantissa) * 2.0 ** (exponent - bias - mantissa_bits)
    values = np.where(exponent == 0, mantissa * 2.0 ** (1 - bias - mantissa_bits), normal)
    top = exponent == 2**exponent_bits - 1
    if kind == "ieee":
        values = np.where(top, np.where(mantissa == 0, np.inf, np.nan), values)
    elif kind == "fn":
        values = np.where(top & (mantissa == 2**mantissa_bits - 1), np.nan, values)
    values = np.where(codes >= 128, -values, values)
    return np.where((codes == 128) & (kind == "fnuz"), np.nan, values).astype(np.float32)


def _small(values: NDArray[np.uint8], *format_of: int, kind: str) -> NDArray[np.float32]:
    return _table(*format_of, kind)[values]


def _powers(values: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Powers of two, the scales of microscaling formats."""
    return np.where(values == 255, np.nan, 2.0 ** (values.astype(np.float64) - 127)).astype(np.float32)


FLOAT8: Mapping[str, Callable[[NDArray[np.uint8]], NDArray[np.float32]]] = {
    "float8_e5m2": lambda values: _small(values, 5, 2, 15, kind="ieee"),
    "float8_e4m3fn": lambda values: _small(values, 4, 3, 7, kind="fn"),
    "float8_e5m2fnuz": lambda values: _small(values, 5, 2, 16, kind="fnuz"),
    "float8_e4m3fnuz": lambda values: _small(values, 4, 3, 8, kind="fnuz"),
    "float8_e8m0fnu": _powers,
}
"""Conversion by the name of the ``torch.dtype``."""
