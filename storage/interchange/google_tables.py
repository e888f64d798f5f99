"""The tables of a matrix in the format of Google's Small CNN Zoo: states of the rows, weights of the columns."""

import csv
import gzip
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..budget import JSON, Meter
from ..errors import BudgetExceeded, FormatError
from ..formats.layout import Layout
from ..formats.restricted_pickle import one_line
from ..keys import copy_key
from ..stores.protocol import get_or_none
from ..zoo import Zoo
from .raw.format import MAX_EPOCH

NAMES = {"short": ("weights.npy", "metrics.csv.gz"), "all": ("all_weights.npy", "all_metrics.csv")}
TABLES = ("google_metrics.csv.gz", "google_layout.csv")  # names in the folder of an imported zoo's version


def compress(data: bytes) -> bytes:
    """gzip of ``data``, without name and time: equal data give equal bytes."""
    target = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=target, mtime=0) as file:
        file.write(data)
    return target.getvalue()


@dataclass(frozen=True)
class GoogleTables:
    """The tables of a matrix.

    Attributes:
        rows: of the metrics, by column, in the order of the matrix.
        states: (model, epoch) of each row. Models are counted in the order in which ``modeldir`` names them, or are our
            column ``model``; the epoch is ``step``, or our column ``epoch``.
        layout: of our vectors; ``columns`` [D]: the columns of the matrix in the order of our vector.
        files: ``TABLES`` as they were.
    """

    rows: list[dict[str, str]]
    states: list[tuple[int, int]]
    layout: Layout
    columns: NDArray[np.intp]
    files: Mapping[str, bytes]

    @classmethod
    def read(cls, metrics: bytes, layout: bytes, what: str) -> "GoogleTables":
        """Raises FormatError for tables that are not of this format."""
        meter = JSON.meter(what)
        try:
            with gzip.open(io.BytesIO(metrics)) as file:
                text = file.read(JSON.max_bytes + 1)
            meter.add(num_bytes=len(text), num_elements=text.count(b",") + text.count(b"\n"))
            rows = list(csv.DictReader(io.StringIO(text.decode("utf-8-sig"), newline="")))
            lines = list(csv.DictReader(io.StringIO(layout.decode("utf-8-sig"), newline="")))
            tensors, columns = _layout(lines, meter)
            states = _states(rows)
        except BudgetExceeded:
            raise
        except FormatError as error:
            raise FormatError(f"{what}: {one_line(error)}") from None
        except Exception as error:  # csv, gzip and numpy each raise their own
            raise FormatError(f"{what}: its tables are not readable ({one_line(error)})") from None
        (state, count), *_ = Counter(states).most_common(1)
        if count > 1:
            raise FormatError(f"{what}: {count} rows of model {state[0]} at epoch {state[1]}")
        return cls(rows, states, Layout.of(tensors), columns, dict(zip(TABLES, (metrics, layout), strict=True)))

    @classmethod
    def of(cls, zoo: Zoo) -> "GoogleTables | None":
        """The tables of an imported zoo; None for other zoos."""
        stored = [get_or_none(zoo.store, copy_key(zoo.name, zoo.version, name)) for name in TABLES]
        if stored[0] is None or stored[1] is None:
            return None
        return cls.read(stored[0][0], stored[1][0], f"zoo {zoo.name!r}")

    def metrics_of(self, rows: Sequence[int], compressed: bool) -> bytes:
        """The given rows of the metrics as CSV. All rows give the file as it was."""
        if list(rows) == list(range(len(self.rows))):
            return self.files[TABLES[0]] if compressed else gzip.decompress(self.files[TABLES[0]])
        out = io.StringIO()
        writer = csv.DictWriter(out, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows[row] for row in rows)
        return compress(out.getvalue().encode()) if compressed else out.getvalue().encode()


def _layout(
    lines: Sequence[Mapping[str, str]], meter: Meter
) -> tuple[list[tuple[str, tuple[int, ...]]], NDArray[np.intp]]:
    """Names and shapes of our layout, and the columns of the matrix in the order of our vector."""
    layers: dict[str, dict[str, NDArray[np.intp]]] = {}
    stop = 0
    for line in lines:
        shape = tuple(int(size) for size in line["shape"].strip("()[] ").split(",") if size.strip())
        start, end = int(line["start_idx"]), int(line["end_idx"])
        if start != stop or any(size < 1 for size in shape) or end - start != int(np.prod(shape, dtype=object)):
            raise FormatError(f"layout.csv: {line['varname']} has shape {shape} and columns {start} to {end}")
        stop = end
        meter.add(num_elements=end - start)
        places = np.arange(start, end).reshape(shape)
        layer, _, part = line["varname"].rpartition("/")
        if part.startswith("kernel"):
            places = places.transpose(3, 2, 0, 1) if places.ndim == 4 else places.T
        layers.setdefault(layer, {})["weight" if part.startswith("kernel") else part.partition(":")[0]] = places
    counts = {"conv": 0, "linear": 0}
    tensors, columns = [], []
    for layer, parts in layers.items():
        weight = parts.get("weight")
        if weight is None or weight.ndim not in (2, 4):
            raise FormatError(f"layout.csv: layer {layer} has no kernel of 2 or 4 dimensions")
        kind = "conv" if weight.ndim == 4 else "linear"
        counts[kind] += 1
        for part in ("weight", *(part for part in parts if part != "weight")):
            tensors.append((f"{kind}{counts[kind]}.{part}", parts[part].shape))
            columns.append(parts[part].reshape(-1))
    return tensors, np.concatenate(columns)


def _states(rows: Sequence[Mapping[str, str]]) -> list[tuple[int, int]]:
    index_of: dict[str, int] = {}
    states = []
    for row in rows:
        model = int(row["model"]) if row.get("model") else index_of.setdefault(row["modeldir"], len(index_of))
        epoch = float(row.get("epoch") or row["step"])
        if not epoch.is_integer() or not 0 <= epoch <= MAX_EPOCH or not 0 <= model < 10**7:
            raise FormatError(f"metrics: model {model} at epoch {epoch}")
        states.append((model, int(epoch)))
    if not states:
        raise FormatError("metrics: no row")
    return states
