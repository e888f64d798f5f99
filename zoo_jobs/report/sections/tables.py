"""Tables that several sections have."""

from collections.abc import Callable

import numpy as np

from .. import words
from ..blocks import Row, Table, number
from ..statistics import QUANTILES, Bands

QUANTILE_HEADS = [{0.5: "Median"}.get(q, f"{100 * q:.0f}%") for q in QUANTILES]


def bands_table(caption: str, values: Bands, show: Callable[[float], str] = words.percent) -> Table:
    """The quantiles at up to twelve epochs."""
    last = len(values.epochs_E) - 1
    chosen = np.unique(np.linspace(0, last, min(12, last + 1)).round().astype(int))
    rows: list[Row] = [
        [
            number(str(values.epochs_E[e])), number(words.count(int(values.counts_E[e]))),
            *(number(show(float(v))) for v in values.values_QE[:, e]),
        ]
        for e in chosen
    ]  # fmt: skip
    return Table(caption, ["Epoch", "Models", *QUANTILE_HEADS], rows)
