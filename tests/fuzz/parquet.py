"""Parquet files with changed fields in their footers and page headers, which still parse. Pure."""

import io
from collections.abc import Iterator
from copy import deepcopy
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz.mutate import ODD_NUMBERS, mutated
from tests.support.parquet_footer import encoded_struct, join_footer, split_footer
from zooforge.storage.budget import Budget
from zooforge.storage.formats.thrift import (
    BINARY,
    BYTE,
    DOUBLE,
    FALSE,
    I16,
    I32,
    I64,
    LIST,
    STRUCT,
    TRUE,
    Struct,
    read_struct,
)

_BOX = [[number, DOUBLE, 8 * b"\x7f"] for number in range(1, 9)]
_KEY = [[1, LIST, [BINARY, [b"model"]]], [2, BINARY, b"key"]]
_FIELDS: Struct = [
    [8, STRUCT, [[1, STRUCT, [[1, BINARY, b"aad"], [2, BINARY, b"file"]]]]],  # encryption of a file or a column
    [8, STRUCT, [[2, STRUCT, _KEY]]],
    [9, BINARY, b"key"],
    [14, I64, 4],  # bloom filter
    [15, I32, 64],
    [16, STRUCT, [[1, I64, 5], [2, LIST, [I64, [1, 2]]], [3, LIST, [I64, [8, 0]]]]],  # size statistics
    [17, STRUCT, [[1, STRUCT, _BOX], [2, LIST, [I32, [1, 99]]]]],  # geospatial statistics
    *([10, STRUCT, [[union, STRUCT, []]]] for union in range(1, 20)),  # logical types
    [10, STRUCT, [[5, STRUCT, [[1, I32, 2], [2, I32, 40]]]]],
    [7, LIST, [STRUCT, [[[1, STRUCT, []]]]]],  # column orders
]  # fmt: skip
"""Fields of a footer that our writer does not write."""


def rich_table() -> bytes:
    """A file with lists, several row groups and what pyarrow writes on request: page index, bloom filters, order."""
    table = pa.table(
        {
            "model": pa.array(range(40), pa.int32()),
            "split": ["train", None] * 20,
            "counts": pa.array([[1, 2], None] * 20, pa.list_(pa.int32())),
            "at": pa.array(range(40), pa.timestamp("us")),
        }
    )
    sink = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata({"a": "b"}), sink, row_group_size=16, write_page_index=True,
        sorting_columns=[pq.SortingColumn(0)], bloom_filter_options={"model": True},
    )  # fmt: skip
    return sink.getvalue()


def changed_headers(files: list[bytes], random: Random) -> bytes:
    """One of ``files`` with one to three changes in its footer or in its first page's header."""
    pages, footer = split_footer(random.choice(files))
    if random.random() < 0.3:
        header, end = read_struct(pages, 4, Budget(len(pages)).meter("page"))
        _change(header, random)
        return join_footer(pages[:4] + encoded_struct(header) + pages[end:], footer)
    _change(footer, random)
    return join_footer(pages, footer)


def _change(root: Struct, random: Random) -> None:
    for _ in range(random.randint(1, 3)):
        structs = list(_structs(STRUCT, root))
        struct = random.choice(structs)
        field = random.choice(struct)
        match random.randrange(8):
            case 0:
                struct.remove(field)
            case 1:
                field[0] = random.randint(1, 18)
            case 2 | 3:
                struct.append(deepcopy(random.choice(_FIELDS)))
            case 4:
                struct.append(deepcopy(random.choice(random.choice(structs))))
            case _:
                field[2] = _other(field[1], field[2], random)


def _structs(kind: int, value: Any) -> Iterator[Struct]:
    """All structs in a value that have fields."""
    if kind == STRUCT and value:
        yield value
        for _, inner, one in value:
            yield from _structs(inner, one)
    if kind == LIST:
        for one in value[1]:
            yield from _structs(value[0], one)


def _other(kind: int, value: Any, random: Random) -> Any:
    if kind in (TRUE, FALSE):
        return not value
    if kind in (BYTE, I16, I32, I64):
        return random.choice((value + random.choice((-1, 1, -value)), random.randrange(16), random.choice(ODD_NUMBERS)))
    if kind == BINARY:
        return mutated([value], random)
    if kind == LIST and value[1]:
        inner, values = value
        at = random.randrange(len(values))
        given = ([], [values[at]] * random.randint(1, 20), [_other(inner, values[at], random)])
        return [inner, values[:at] + random.choice(given) + values[at + 1 :]]
    return value
