"""Safetensors with deterministic bytes, and bits, names and ranges of tensors.

The format is the public one: 8 bytes little-endian header length, a JSON header, then the values, row-major,
little-endian. Order of tensors, form of the header, padding, and at most one metadata entry ``provenance`` are fixed as
well, so that equal values give equal bytes. See docs/format.md. The public library is not used: it does not fix these,
and readers would install it for nothing else.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..canonical import canonical_json, parse_json
from ..errors import FormatError

MAX_HEADER_BYTES = 64 * 1024 * 1024
COALESCE_BYTES = 256 * 1024  # gaps up to this size are read, since another request would cost more

_NAMES: dict[str, str] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
DTYPE_OF = {code: np.dtype(text) for code, text in _NAMES.items()}
_CODES = {dtype: code for code, dtype in DTYPE_OF.items()}

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """The place of a tensor in its object. ``start`` and ``stop`` count bytes from the beginning of the object."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    stop: int

    def array(self, data: bytes | bytearray | memoryview) -> NDArray[Any]:
        """View of the tensor's own bytes."""
        return np.frombuffer(data, self.dtype).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """All tensors of an object in the order of their bytes, and its provenance (None if it holds values only)."""

    tensors: dict[str, TensorInfo]
    provenance: Any
    size: int  # bytes of the whole object


def encode(tensors: Mapping[str, NDArray[Any]], provenance: Any = None) -> memoryview:
    """Bytes of a safetensors object. Equal arguments give equal bytes, in any process.

    Wider types come first, so that every tensor is aligned; within a width the order is the argument's.

    Args:
        tensors: name to array; any layout in memory.
        provenance: JSON kept as the one metadata entry; None for an object that is a function of its values.
    """
    ordered, header = _begin(tensors, provenance)
    # Not a bytearray, because Python would first fill it with zeros.
    data = np.empty(len(header) + sum(array.nbytes for _, array in ordered), np.uint8)
    position = len(header)
    data[:position] = np.frombuffer(header, np.uint8)
    for _, array in ordered:
        if array.nbytes:
            out = np.frombuffer(data, array.dtype.newbyteorder("<"), array.size, position).reshape(array.shape)
            out[...] = array
        position += array.nbytes
    return data.data


def encode_pieces(tensors: Mapping[str, NDArray[Any]], provenance: Any = None) -> list[memoryview]:
    """The bytes that ``encode`` gives, in pieces: the header, then the bytes of each tensor in their order.

    An array whose memory already has the stored form is not copied.
    """
    ordered, header = _begin(tensors, provenance)
    pieces = [memoryview(header)]
    for _, array in ordered:
        stored = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        pieces.append(stored.reshape(-1).view(np.uint8).data)
    return pieces


def _begin(tensors: Mapping[str, NDArray[Any]], provenance: Any) -> tuple[list[tuple[str, NDArray[Any]]], bytes]:
    """Tensors in the order of their bytes, and the bytes before the first one."""
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
    header: dict[str, Any] = {}
    if provenance is not None:
        header["__metadata__"] = {"provenance": canonical_json(provenance).decode()}
    offset = 0
    for name, array in ordered:
        code = code_of(array)
        if code is None or not name or name == "__metadata__":
            raise FormatError(f"tensor {name!r}: {array.dtype} cannot be stored")
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return ordered, len(text).to_bytes(8, "little") + text


def code_of(array: NDArray[Any]) -> str | None:
    """The format's name of the array's type; None if it has none."""
    return _CODES.get(array.dtype.newbyteorder("<"))


def decode(data: bytes | bytearray | memoryview, what: str = "tensors") -> tuple[Arrays, Any]:
    """Read-only views of all tensors, and the provenance. Raises FormatError; its message begins with ``what``."""
    header = parse_header(data, len(data), what)
    view = memoryview(data)
    arrays = {name: info.array(view[info.start : info.stop]) for name, info in header.tensors.items()}
    for array in arrays.values():
        array.flags.writeable = False
    return arrays, header.provenance


def header_length(data: bytes | bytearray | memoryview, what: str) -> int:
    """Bytes before the first value. Raises FormatError if no header can begin like this."""
    if len(data) < 8:
        raise FormatError(f"{what}: {len(data)} bytes are no safetensors object; it is truncated")
    length = int.from_bytes(bytes(data[:8]), "little")
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise FormatError(f"{what}: a header of {length} bytes is beyond the limit; the object is damaged")
    return 8 + length


def parse_header(data: bytes | bytearray | memoryview, size: int, what: str) -> Header:
    """Header of an object of ``size`` bytes of which ``data`` is the beginning.

    Raises:
        FormatError: truncated, unknown type, tensors that overlap, leave gaps or do not fill the object.
    """
    begin = header_length(data, what)
    if len(data) < begin:
        raise FormatError(f"{what}: the header ends at {begin}, the object at {len(data)}; it is truncated")
    header = parse_json(bytes(data[8:begin]), what)
    if not isinstance(header, dict):
        raise FormatError(f"{what}: the header is no JSON object")
    metadata = header.pop("__metadata__", None)
    infos = sorted((_info(name, entry, begin, what) for name, entry in header.items()), key=lambda i: (i.start, i.stop))
    position = begin
    for info in infos:
        if info.start != position:
            raise FormatError(f"{what}: tensor {info.name!r} begins at {info.start}, expected {position}")
        position = info.stop
    if position != size:
        raise FormatError(f"{what}: the tensors end at {position}, the object has {size} bytes")
    provenance = None
    if metadata is not None:
        if not isinstance(metadata, dict) or set(metadata) != {"provenance"}:
            raise FormatError(f"{what}: metadata other than one `provenance` entry")
        provenance = parse_json(str(metadata["provenance"]).encode(), what)
    return Header({info.name: info for info in infos}, provenance, size)


def coalesce(infos: Iterable[TensorInfo], gap_bytes: int = COALESCE_BYTES) -> list[list[TensorInfo]]:
    """Tensors by position, in groups that one read each serves."""
    groups: list[list[TensorInfo]] = []
    for info in sorted(infos, key=lambda i: (i.start, i.stop)):
        if groups and info.start - groups[-1][-1].stop <= gap_bytes:
            groups[-1].append(info)
        else:
            groups.append([info])
    return groups


def pack_mask(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Bits of [..., V] as [..., ceil(V / 8)], value i in bit i % 8 (least significant first) of byte i // 8."""
    return np.packbits(mask, axis=-1, bitorder="little")


def unpack_mask(bits: NDArray[np.uint8], size: int) -> NDArray[np.bool_]:
    return np.unpackbits(bits, axis=-1, count=size, bitorder="little").astype(np.bool_)


def canonical_nan(array: NDArray[Any]) -> NDArray[Any]:
    """``array`` with every NaN as the quiet positive one (float32 0x7fc00000): sign and payload vary by machine."""
    if array.dtype.kind != "f" or not array.size or not np.isnan(array.min()):  # one pass, without an array of booleans
        return array
    bad = np.isnan(array)
    out = array.copy()
    out[bad] = np.nan
    return out


def _info(name: str, entry: Any, begin: int, what: str) -> TensorInfo:
    try:
        dtype = DTYPE_OF[entry["dtype"]]
        shape = tuple(_count(n) for n in entry["shape"])
        start, stop = (_count(n) for n in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{what}: tensor {name!r} is not described as it should be ({error})") from None
    if stop - start != math.prod(shape) * dtype.itemsize:
        raise FormatError(f"{what}: tensor {name!r} of shape {list(shape)} cannot have {stop - start} bytes")
    return TensorInfo(name, dtype, shape, begin + start, begin + stop)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise ValueError(f"{value!r} is no count")
    return value


def tensor_name(epoch: int, field: str = "") -> str:
    """``epoch_007`` for weights, ``epoch_007.mask`` and so on for the other fields of a state."""
    return f"epoch_{epoch:03d}{field}"


def parse_tensor_name(name: str) -> tuple[int, str]:
    """(epoch, field). Raises FormatError."""
    digits, dot, field = name.removeprefix("epoch_").partition(".")
    if not name.startswith("epoch_") or not digits.isdigit():
        raise FormatError(f"{name!r} is no tensor of an epoch")
    return int(digits), dot + field
