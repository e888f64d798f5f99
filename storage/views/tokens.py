"""Weight vectors as sequences of tokens, one per output channel, as the SANE line of work reads them. Pure numpy."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from ..formats.layout import Layout


@dataclass(frozen=True, eq=False)
class Tokens:
    """``values`` [N, T, S], ``mask`` [N, T, S] (true: a weight, false: padding), ``positions`` [T, 3].

    A position is (index in the whole sequence, layer, channel); pieces of one long channel share the last two, as SANE
    has it.
    """

    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    positions: NDArray[np.int32]


def rows_of(layout: Layout) -> list[tuple[int, int, NDArray[np.intp]]]:
    """(layer, channel, positions in the vector) per output channel: its incoming weights, row-major, then its bias."""
    entries = {entry.name: entry for entry in layout.entries}
    rows = []
    layer = 0
    for entry in layout.entries:
        if not entry.name.endswith(".weight") or len(entry.shape) < 2:
            continue
        bias = entries.get(entry.name.removesuffix("weight") + "bias")
        weights = np.arange(entry.offset, entry.stop).reshape(entry.shape[0], -1)
        for channel in range(entry.shape[0]):
            columns = weights[channel]
            if bias is not None:
                columns = np.append(columns, bias.offset + channel)
            rows.append((layer, channel, columns))
        layer += 1
    return rows


def tokenize(values: NDArray[np.float32], layout: Layout, token_size: int | None = None) -> Tokens:
    """Tokens of ``values`` [N, D]; a channel with more weights than a token holds takes several.

    Args:
        token_size: S; None takes the length of the longest channel, so that each channel is one token.
    """
    table, order = token_places(layout, token_size)
    padded = np.concatenate([values, np.zeros((len(values), 1), values.dtype)], axis=1)
    mask = np.broadcast_to(table >= 0, (len(values), *table.shape))
    return Tokens(np.ascontiguousarray(padded[:, table]), mask.copy(), order.copy())


@lru_cache(maxsize=16)
def token_places(layout: Layout, token_size: int | None = None) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Positions in the vector [T, S], -1 where a token is padded, and the tokens' ``positions``."""
    rows = rows_of(layout)
    size = token_size or max(len(columns) for _, _, columns in rows)
    if size < 1:
        raise FormatError(f"a token of {size} values cannot hold a weight")
    index: list[NDArray[np.intp]] = []
    positions: list[tuple[int, int, int]] = []
    for layer, channel, columns in rows:
        for start in range(0, len(columns), size):
            piece = columns[start : start + size]
            index.append(np.pad(piece, (0, size - len(piece)), constant_values=-1))
            positions.append((len(positions), layer, channel))
    return np.stack(index), np.array(positions, np.int32)


def detokenize(values: Any, layout: Layout) -> Any:
    """Weight vectors [N, D] of token values [N, T, S], whose padding is ignored.

    An array gives an array, and a tensor a tensor, through which gradients flow.

    Raises FormatError unless T is the number of tokens that the layout has at size S.
    """
    if values.ndim != 3:
        raise FormatError(f"tokens of shape {list(values.shape)}, expected three axes: states, tokens, values")
    places, _ = token_places(layout, values.shape[2])
    if values.shape[1] != len(places):
        raise FormatError(f"{values.shape[1]} tokens of {values.shape[2]} values, this layout has {len(places)}")
    shape = (len(values), layout.size)
    out = np.zeros(shape, np.float32) if isinstance(values, np.ndarray) else values.new_zeros(shape)
    token, place = np.nonzero(places >= 0)
    out[:, places[token, place]] = values[:, token, place]
    return out
