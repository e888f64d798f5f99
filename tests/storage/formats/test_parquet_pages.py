"""The cost of a Parquet file is counted from its pages, before pyarrow decodes them."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.parquet_footer import (
    encoded_struct,
    join_footer,
    set_value,
    split_footer,
    value_of,
)
from zooforge.storage.budget import Budget
from zooforge.storage.errors import BudgetExceeded, FormatError
from zooforge.storage.formats import parquet_pages, tables
from zooforge.storage.formats.parquet_pages import count_pages
from zooforge.storage.formats.tables import decode_table
from zooforge.storage.formats.thrift import read_struct

LISTS = pa.table({"n": pa.array([[7] * 500_000] * 60, pa.list_(pa.int32()))})
"""30 million entries that are equal: run lengths make a few hundred bytes of them."""


def written(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"compression": "zstd", **options})
    return sink.getvalue()


def counted(data: bytes) -> int:
    meter = Budget(2**40).meter("x")
    count_pages(data, meter)
    return meter.num_bytes


def first_column(footer: Any) -> Any:
    group = value_of(footer, parquet_pages.ROW_GROUPS)[1][0]
    return value_of(value_of(group, parquet_pages.COLUMNS)[1][0], parquet_pages.META_DATA)


def with_page_field(data: bytes, change: Any) -> bytes:
    """The file whose first page's header was changed; the last page is cut or filled so that offsets stay."""
    header, end = read_struct(data, 4, Budget(2**20).meter("x"))
    change(header)
    changed = encoded_struct(header)
    assert len(changed) == end - 4, "the header keeps its length"
    return data[:4] + changed + data[end:]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [False, True])
@pytest.mark.parametrize("row_group_size", [1000, 7])
def test_the_count_is_at_least_what_the_decoded_table_takes(
    version: str, dictionary: bool, row_group_size: int
) -> None:
    table = pa.table(
        {
            "a": pa.array(range(1000), pa.int64()),
            "text": ["train", None] * 500,
            "lists": pa.array([[1, 2, 3], None] * 500, pa.list_(pa.int32())),
        }
    )
    data = written(table, data_page_version=version, use_dictionary=dictionary, row_group_size=row_group_size)
    assert decode_table(data, "x").equals(table)
    assert table.nbytes <= counted(data) <= 40 * table.nbytes


def test_lists_that_expand_a_hundred_thousand_times_are_counted_before_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = written(LISTS)
    assert len(data) < 8_000 and LISTS.nbytes > 120_000_000
    monkeypatch.setattr(tables, "TABLE", Budget(max_bytes=10**8))
    monkeypatch.delattr(tables, "_decoded")
    with pytest.raises(BudgetExceeded, match=r"^x: [0-9,]+ bytes, the limit is 100,000,000$"):
        decode_table(data, "x")


def test_a_footer_that_names_fewer_values_than_the_pages_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pages, footer = split_footer(written(LISTS.slice(0, 1)))
    set_value(first_column(footer), parquet_pages.NUM_VALUES, 1)
    monkeypatch.delattr(tables, "_decoded")
    with pytest.raises(
        FormatError, match=r"^x: not readable as Parquet \(pages of a column have 500,000 values, the f"
    ):
        decode_table(join_footer(pages, footer), "x")


def test_a_row_group_that_claims_more_rows_than_it_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pages, footer = split_footer(written(LISTS.slice(0, 1)))  # pyarrow made room for the claim: 74 GB
    set_value(value_of(footer, parquet_pages.ROW_GROUPS)[1][0], parquet_pages.NUM_ROWS, 2**31 - 1)
    monkeypatch.delattr(tables, "_decoded")
    with pytest.raises(FormatError, match=r"a column has 500,000 values for 2,147,483,647 rows"):
        decode_table(join_footer(pages, footer), "x")


@pytest.mark.parametrize(
    ("number", "value", "message"),
    [
        (parquet_pages.COMPRESSED, 10**6, "a column lies outside the file"),
        (parquet_pages.COMPRESSED, -5, "is -5"),
        (parquet_pages.COMPRESSED, 20, "a page lies outside its column"),
        (parquet_pages.FIRST_DATA_PAGE, -4, "is -4"),
        (parquet_pages.FIRST_DATA_PAGE, 0, "a column lies outside the file"),
    ],
)
def test_a_column_that_is_not_in_the_file_is_refused(number: int, value: int, message: str) -> None:
    pages, footer = split_footer(written(pa.table({"n": list(range(100))}), use_dictionary=False))
    set_value(first_column(footer), number, value)
    with pytest.raises(ValueError, match=message):
        counted(join_footer(pages, footer))


def test_an_encoding_that_can_repeat_a_long_text_is_refused() -> None:
    table = pa.table({"text": ["x" * 1000] * 1000})
    data = written(table, use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY")
    assert len(data) < 20_000
    with pytest.raises(FormatError, match=r"^x: not readable as Parquet \(a page has the encoding 7, which no label"):
        decode_table(data, "x")


def test_the_size_that_a_page_claims_after_decompression_is_counted() -> None:
    data = written(pa.table({"n": list(range(1000))}), use_dictionary=False)
    honest = counted(data)
    sizes = []

    def lie(header: Any) -> None:
        sizes.append(value_of(header, parquet_pages.PAGE_UNCOMPRESSED))
        set_value(header, parquet_pages.PAGE_UNCOMPRESSED, 8191)

    changed = with_page_field(data, lie)
    assert counted(changed) == honest - sizes[0] + 8191
