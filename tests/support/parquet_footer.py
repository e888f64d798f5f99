"""The footer of a Parquet file as a tree of lists that a test may change, and back to bytes. Pure.

The footer is a struct of Thrift's compact protocol (thrift-compact-protocol.md of Apache Thrift); parquet.thrift of
Apache Parquet numbers its fields. A struct is a list of fields ``[number, kind, value]``, a list is
``[kind, values]``; other values are an int, a bool or bytes.
"""

from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, _MAP, STRUCT = range(1, 13)
SCHEMA, ROW_GROUPS = 2, 4  # fields of the footer
COLUMNS, TOTAL_BYTE_SIZE = 1, 2  # fields of a row group
META_DATA = 3  # field of a column chunk
SIZE_STATISTICS = 16  # field of a column chunk's meta data

Struct = list[list[Any]]


def split_footer(data: bytes) -> tuple[bytes, Struct]:
    """The bytes before the footer, and the footer. The last eight bytes are its length and ``PAR1``."""
    begin = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    return data[:begin], _Reader(data[begin:-8]).struct()


def join_footer(pages: bytes, footer: Struct) -> bytes:
    """The file of ``split_footer``."""
    data = _encoded(STRUCT, footer)
    return pages + data + len(data).to_bytes(4, "little") + b"PAR1"


def value_of(struct: Struct, number: int) -> Any:
    """The value of one field."""
    return next(value for other, _, value in struct if other == number)


def with_size_statistics(data: bytes, histogram: list[int]) -> bytes:
    """The file with this histogram of definition levels at its first column, which pyarrow checks when it looks."""
    pages, footer = split_footer(data)
    column = value_of(footer, ROW_GROUPS)[1][0]
    meta = value_of(value_of(column, COLUMNS)[1][0], META_DATA)
    meta[:] = [field for field in meta if field[0] != SIZE_STATISTICS]
    meta.append([SIZE_STATISTICS, STRUCT, [[3, LIST, [I64, histogram]]]])
    return join_footer(pages, footer)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def _take(self, length: int) -> bytes:
        self._at += length
        return self._data[self._at - length : self._at]

    def _varint(self) -> int:
        number = shift = 0
        while (byte := self._take(1)[0]) > 127:
            number, shift = number | (byte & 127) << shift, shift + 7
        return number | byte << shift

    def _integer(self) -> int:
        number = self._varint()
        return number >> 1 ^ -(number & 1)

    def struct(self) -> Struct:
        fields: Struct = []
        number = 0
        while header := self._take(1)[0]:
            number = number + (header >> 4) if header >> 4 else self._integer()
            kind = header & 15
            fields.append([number, kind, kind == TRUE if kind in (TRUE, FALSE) else self._value(kind)])
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (TRUE, FALSE, BYTE):
            return self._take(1)[0]
        if kind in (I16, I32, I64):
            return self._integer()
        if kind in (LIST, SET):
            header = self._take(1)[0]
            length = header >> 4 if header >> 4 < 15 else self._varint()
            return [header & 15, [self._value(header & 15) for _ in range(length)]]
        if kind == STRUCT:
            return self.struct()
        return self._take(8 if kind == DOUBLE else self._varint())


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
