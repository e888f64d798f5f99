"""The reader of Thrift structs refuses what other readers cut, skip or merge."""

import pytest

from tests.support.parquet_footer import encoded_struct
from zooforge.storage.budget import Budget
from zooforge.storage.errors import BudgetExceeded
from zooforge.storage.formats.thrift import BINARY, FALSE, I16, I32, I64, LIST, STRUCT, TRUE, Struct, field, read_struct

TREE: Struct = [
    [1, I32, -7],
    [2, BINARY, b"text"],
    [3, TRUE, True],
    [4, FALSE, False],
    [300, I64, -(2**63)],
    [301, LIST, [STRUCT, [[[1, I16, 5]], []]]],
    [302, LIST, [I32, list(range(20))]],
    [303, STRUCT, [[1, I64, 2**63 - 1]]],
]


def read(data: bytes, max_elements: int = 1_000) -> Struct:
    struct, end = read_struct(b"??" + data, 2, Budget(2**20, max_elements).meter("x"))
    assert end == 2 + len(data)
    return struct


def test_a_struct_is_read_as_it_was_written() -> None:
    assert read(encoded_struct(TREE)) == TREE


@pytest.mark.parametrize("length", range(len(encoded_struct(TREE))))
def test_a_struct_that_is_cut_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="is cut off"):
        read(encoded_struct(TREE)[:length])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x15\x02\x05\x02\x04\x00", "field 1 of a Thrift struct is there twice"),
        (b"\x15\x80\x80\x80\x80\x10\x00", "more than 32 bits"),
        (b"\x16" + b"\x80" * 10 + b"\x01\x00", "more than 64 bits"),
        (b"\x05\x80\x80\x08\x02\x00", "more than 16 bits"),
        (b"\x18\x80\x80\x80\x80\x08", "more than 31 bits"),
        (b"\x10\x00", "kind 0"),
        (b"\x1b\x00\x00", "kind 11"),
        (b"\x1d" + bytes(17), "kind 13"),
    ],
)
def test_files_that_only_lenient_readers_accept_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(data)


def test_deep_and_long_structs_are_refused() -> None:
    with pytest.raises(BudgetExceeded, match="65 levels of nesting"):
        read(b"\x1c" * 65 + bytes(66))
    with pytest.raises(BudgetExceeded, match="11 elements"):
        read(encoded_struct([[1, LIST, [I32, [1] * 12]]]), max_elements=10)


def test_a_field_of_another_kind_is_refused() -> None:
    assert field(TREE, 9, I32) is None
    with pytest.raises(ValueError, match="field 1 of a Thrift struct is of kind 5, not 6"):
        field(TREE, 1, I64)
