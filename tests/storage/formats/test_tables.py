"""Parquet files that are made to cost memory or to end the process."""

import io
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.parquet_footer import join_footer, set_value, split_footer, value_of, with_size_statistics
from zooforge.storage.budget import Budget
from zooforge.storage.errors import BudgetExceeded, FormatError
from zooforge.storage.formats import tables
from zooforge.storage.formats.parquet_pages import ROW_GROUPS
from zooforge.storage.formats.tables import decode_table

TOTAL_BYTE_SIZE = 2  # field of a row group

DECODE = """
import sys
from zooforge.storage.errors import FormatError
from zooforge.storage.formats.tables import decode_table
try:
    decode_table(sys.stdin.buffer.read(), "x")
except FormatError as error:
    print(error)
"""


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def decode_in_process(data: bytes) -> str:
    """The output of a new process that decodes a table, because an abort inside pyarrow would end the tests."""
    done = subprocess.run([sys.executable, "-c", DECODE], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_a_footer_with_a_wrong_histogram_is_refused_and_does_not_end_the_process() -> None:
    data = parquet(pa.table({"n": [1, 2, 3]}))
    assert decode_in_process(with_size_statistics(data, [0, 3])) == ""
    text = decode_in_process(with_size_statistics(data, [0, 3, 0]))
    assert (
        text.startswith("x: not readable as Parquet (Definition level histogram size mismatch")
        and "\n" not in text[:-1]
    )


def test_a_negative_size_in_the_footer_does_not_hide_a_long_text_in_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    pages, footer = split_footer(parquet(pa.table({"reason": ["x" * 10_000] * 2_000})))
    (group,) = value_of(footer, ROW_GROUPS)[1]
    set_value(group, TOTAL_BYTE_SIZE, -(2**40))
    data = join_footer(pages, footer)
    assert decode_table(data, "x").num_rows == 2_000
    monkeypatch.setattr(tables, "TABLE", Budget(max_bytes=10**7))
    with pytest.raises(BudgetExceeded, match=r"^x: 20,0[0-9,]+ bytes, the limit is 10,000,000$"):
        decode_table(data, "x")


@pytest.mark.parametrize(
    "column_type", [pa.binary(), pa.large_string(), pa.string_view(), pa.list_(pa.string()), pa.binary(4)], ids=str
)
def test_a_type_that_no_label_has_is_refused_before_it_is_decoded(
    column_type: pa.DataType, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = ["abcd"] if pa.types.is_list(column_type) else "abcd"
    data = parquet(pa.table({"n": pa.array([1, 2]), "reason": pa.array([value] * 2, column_type)}))
    monkeypatch.delattr(tables, "_decoded")
    with pytest.raises(FormatError, match=r"^x: column 'reason' has the type '.*', which no label has$"):
        decode_table(data, "x")


def test_a_long_text_counts_in_each_of_two_columns_with_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [pa.array([letter * 10_000] * 2_000) for letter in "ab"]
    data = parquet(pa.Table.from_arrays([pa.array([[1, 2]] * 2_000), *texts], names=["n", "t", "t"]))
    monkeypatch.setattr(tables, "TABLE", Budget(max_bytes=3 * 10**7))
    with pytest.raises(BudgetExceeded, match=r"^x: 40,"):
        decode_table(data, "x")
