"""Finds how much memory a Parquet file takes when it is decoded, from its footer and its page headers. Pure.

pyarrow decodes as many values as the page headers say, whatever the footer says, and makes room for the rows that a
row group claims: 545 bytes can become 124 MB. This module reads the headers of all pages, not the pages. parquet.thrift
of Apache Parquet numbers the fields.
"""

from collections.abc import Iterator
from typing import Any

from ..budget import Meter
from .thrift import I32, I64, STRUCT, Struct, field, read_struct, structs

# Ids of the fields that are read, by Thrift struct.
ROW_GROUPS = 4  # footer
COLUMNS, NUM_ROWS = 1, 3  # row group
META_DATA = 3  # column
NUM_VALUES, COMPRESSED, FIRST_DATA_PAGE, DICTIONARY_PAGE = 5, 7, 9, 11  # a column's meta data
TYPE, PAGE_UNCOMPRESSED, PAGE_COMPRESSED, DATA_PAGE, DICTIONARY_HEADER, DATA_PAGE_V2 = 1, 2, 3, 5, 7, 8  # page
PAGE_VALUES = 1  # each of the three headers inside a page's header
ENCODING = {DATA_PAGE: 2, DATA_PAGE_V2: 4}
HEADERS = {
    0: DATA_PAGE,
    2: DICTIONARY_HEADER,
    3: DATA_PAGE_V2,
}  # type of page: its field; 1 is an index, without values

BYTES_PER_VALUE = 16  # the widest label has 8; the levels of nulls and lists have 2 each
PLAIN_OR_DICTIONARY = {0, 2, 3, 8}  # PLAIN, PLAIN_DICTIONARY, RLE, RLE_DICTIONARY
"""Encodings of a page that are read. Other encodings can repeat a text without a limit."""


def count_pages(data: bytes, meter: Meter) -> None:
    """Count all values and all decompressed pages of a Parquet file.

    Raises:
        ValueError: a page that lies outside its column or the file, that has an encoding which no label table has, or
            a column whose pages do not have the number of values that the footer names, or have fewer than there are
            rows.
        BudgetExceeded: more than the meter allows.
    """
    end = len(data) - 8
    footer, _ = read_struct(data[:end], end - int.from_bytes(data[end : end + 4], "little"), meter)
    for group in structs(footer, ROW_GROUPS):
        num_rows = _number(group, NUM_ROWS, I64)
        for column in structs(group, COLUMNS):
            meta = field(column, META_DATA, STRUCT)
            if meta is None:
                raise ValueError("a column without meta data")
            num_values = sum(_values_of(page, meter) for page in _pages(data, meta, meter))
            if num_values != _number(meta, NUM_VALUES, I64):
                raise ValueError(
                    f"pages of a column have {num_values:,} values, the footer says {_number(meta, NUM_VALUES, I64):,}"
                )
            if num_values < num_rows:
                raise ValueError(f"a column has {num_values:,} values for {num_rows:,} rows")


def _pages(data: bytes, meta: Struct, meter: Meter) -> Iterator[Struct]:
    """The headers of a column's pages."""
    first = _number(meta, FIRST_DATA_PAGE, I64)
    dictionary = field(meta, DICTIONARY_PAGE, I64)
    at = min(first, dictionary) if dictionary else first
    end = at + _number(meta, COMPRESSED, I64)
    if not 0 < at <= end <= len(data):
        raise ValueError("a column lies outside the file")
    while at < end:
        page, at = read_struct(data, at, meter)
        at += _number(page, PAGE_COMPRESSED, I32)
        if at > end:
            raise ValueError("a page lies outside its column")
        yield page


def _values_of(page: Struct, meter: Meter) -> int:
    """Count a page; the number of values that it adds to its column."""
    header = HEADERS.get(_number(page, TYPE, I32))
    meter.add(num_bytes=_number(page, PAGE_UNCOMPRESSED, I32))
    if header is None:
        return 0
    inner = field(page, header, STRUCT)
    if inner is None:
        raise ValueError("a page without the header of its type")
    num_values = _number(inner, PAGE_VALUES, I32)
    meter.add(num_bytes=BYTES_PER_VALUE * num_values)
    if header == DICTIONARY_HEADER:
        return 0
    encoding = _number(inner, ENCODING[header], I32)
    if encoding not in PLAIN_OR_DICTIONARY:
        raise ValueError(f"a page has the encoding {encoding}, which no label has")
    return num_values


def _number(struct: Struct, number: int, kind: int) -> int:
    """A field that must be there and not be negative."""
    value: Any = field(struct, number, kind)
    if value is None or value < 0:
        raise ValueError(f"field {number} of a Parquet header is {'missing' if value is None else value}")
    return int(value)
