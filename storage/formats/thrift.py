"""Structs of Thrift's compact protocol as trees of lists. Pure.

Parquet's footer and page headers are such structs; pyarrow does not show the headers. The reader is strict: what a
lenient reader would cut to 32 bits, skip or merge is refused, so that both read the same numbers. See
thrift-compact-protocol.md of Apache Thrift.
"""

from typing import Any

from ..budget import Meter

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, _MAP, STRUCT = range(1, 13)

Struct = list[list[Any]]
"""The fields ``[number, kind, value]``. A list is ``[kind, values]``; other values are an int, a bool or bytes."""

_BITS = {I16: 16, I32: 32, I64: 64}


def read_struct(data: bytes, at: int, meter: Meter) -> tuple[Struct, int]:
    """The struct that begins at a position, and the position after it.

    Raises:
        ValueError: not a struct of this protocol, or a field that is there twice.
        BudgetExceeded: more values or levels of nesting than the meter allows.
    """
    reader = _Reader(data, at, meter)
    try:
        return reader.struct(1), reader.at
    except IndexError:
        raise ValueError(f"the Thrift struct at byte {at} is cut off") from None


def field(struct: Struct, number: int, kind: int) -> Any:
    """The value of a field, None if it is not there. Raises ValueError if it is of another kind."""
    for other, actual, value in struct:
        if other == number:
            if actual != kind:
                raise ValueError(f"field {number} of a Thrift struct is of kind {actual}, not {kind}")
            return value
    return None


def structs(struct: Struct, number: int) -> list[Struct]:
    """The structs of a field that is a list of them. Raises ValueError if it is anything else."""
    kind, values = field(struct, number, LIST) or [STRUCT, []]
    if kind != STRUCT and values:
        raise ValueError(f"field {number} of a Thrift struct is not a list of structs")
    return list(values)


class _Reader:
    def __init__(self, data: bytes, at: int, meter: Meter) -> None:
        self._data, self.at, self._meter = data, at, meter

    def struct(self, depth: int) -> Struct:
        self._meter.check_depth(depth)
        fields: Struct = []
        numbers = set()
        number = 0
        while header := self._byte():
            number = number + (header >> 4) if header >> 4 else self._integer(16)
            kind = header & 15
            if number in numbers:
                raise ValueError(f"field {number} of a Thrift struct is there twice")
            numbers.add(number)
            value = kind == TRUE if kind in (TRUE, FALSE) else self._value(kind, depth)
            fields.append([number, kind, value])
            self._meter.add(num_elements=1)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (TRUE, FALSE, BYTE):
            return self._byte()
        if kind in _BITS:
            return self._integer(_BITS[kind])
        if kind == STRUCT:
            return self.struct(depth + 1)
        if kind in (LIST, SET):
            return self._list(depth + 1)
        if kind in (DOUBLE, BINARY):
            return self._bytes(8 if kind == DOUBLE else self._varint(31))
        raise ValueError(f"kind {kind} in a Thrift struct, which Parquet does not use")

    def _list(self, depth: int) -> list[Any]:
        self._meter.check_depth(depth)
        header = self._byte()
        length = header >> 4 if header >> 4 < 15 else self._varint(31)
        values = []
        for _ in range(length):
            values.append(self._value(header & 15, depth))
            self._meter.add(num_elements=1)
        return [header & 15, values]

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _bytes(self, length: int) -> bytes:
        self.at += length
        if self.at > len(self._data):
            raise IndexError
        return self._data[self.at - length : self.at]

    def _varint(self, bits: int) -> int:
        number = shift = 0
        more = True
        while more:
            byte = self._byte()
            number, shift, more = number | (byte & 127) << shift, shift + 7, byte > 127
            if number >> bits or shift > 70:
                raise ValueError(f"an integer in a Thrift struct has more than {bits} bits")
        return number

    def _integer(self, bits: int) -> int:
        number = self._varint(bits)
        return number >> 1 ^ -(number & 1)
