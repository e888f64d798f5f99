"""The footer and the page headers of a Parquet file as trees that a test may change, and back to bytes. Pure.

parquet.thrift of Apache Parquet numbers the fields.
"""

from typing import Any

from zooforge.storage.budget import Budget
from zooforge.storage.formats.parquet_pages import COLUMNS, META_DATA, ROW_GROUPS
from zooforge.storage.formats.thrift import (
    BYTE,
    DOUBLE,
    FALSE,
    I16,
    I32,
    I64,
    LIST,
    SET,
    STRUCT,
    TRUE,
    Struct,
    read_struct,
)

SIZE_STATISTICS = 16  # field of a column's meta data


def split_footer(data: bytes) -> tuple[bytes, Struct]:
    """The bytes before the footer, and the footer. The last eight bytes are its length and ``PAR1``."""
    begin = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    return data[:begin], read_struct(data, begin, Budget(2**30).meter("footer"))[0]


def join_footer(pages: bytes, footer: Struct) -> bytes:
    """The file of ``split_footer``."""
    data = encoded_struct(footer)
    return pages + data + len(data).to_bytes(4, "little") + b"PAR1"


def value_of(struct: Struct, number: int) -> Any:
    """The value of one field."""
    return next(value for other, _, value in struct if other == number)


def set_value(struct: Struct, number: int, value: Any) -> None:
    """Give one field another value."""
    struct[:] = [[other, kind, value if other == number else old] for other, kind, old in struct]


def encoded_struct(struct: Struct) -> bytes:
    """The bytes that ``read_struct`` read."""
    return _encoded(STRUCT, struct)


def with_size_statistics(data: bytes, histogram: list[int]) -> bytes:
    """The file with this histogram of definition levels at its first column, which pyarrow checks when it looks."""
    pages, footer = split_footer(data)
    column = value_of(footer, ROW_GROUPS)[1][0]
    meta = value_of(value_of(column, COLUMNS)[1][0], META_DATA)
    meta[:] = [field for field in meta if field[0] != SIZE_STATISTICS]
    meta.append([SIZE_STATISTICS, STRUCT, [[3, LIST, [I64, histogram]]]])
    return join_footer(pages, footer)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _integer(number: int) -> bytes:
    number = (number + 2**63) % 2**64 - 2**63
    return _varint((number << 1 ^ number >> 63) % 2**64)


def _encoded(kind: int, value: Any) -> bytes:
    if kind in (TRUE, FALSE, BYTE):
        return bytes([value % 256])
    if kind in (I16, I32, I64):
        return _integer(value)
    if kind in (LIST, SET):
        inner, values = value
        short = len(values) < 15
        head = bytes([(len(values) if short else 15) << 4 | inner]) + (b"" if short else _varint(len(values)))
        return head + b"".join(_encoded(inner, one) for one in values)
    if kind != STRUCT:
        return bytes(value) if kind == DOUBLE else _varint(len(value)) + value
    out, last = b"", 0
    for number, inner, one in value:
        is_bool, step = inner in (TRUE, FALSE), number - last
        kind = (TRUE if one else FALSE) if is_bool else inner
        out += bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + _integer(number)
        out, last = out + (b"" if is_bool else _encoded(inner, one)), number
    return out + b"\x00"
