"""Files of ``torch.save`` without torch: written with equal bytes for equal values, read without running anything.

The format is torch's own since 1.6: a zip of stored entries, ``data.pkl`` (a pickle whose tensors name storages by
persistent ids) and ``data/KEY`` (the values of each storage). Before, a file was five pickles (a magic number, version,
machine, value, keys of storages), then each storage's count and values; that is read too.
"""

import io
import math
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from ..formats.restricted_pickle import NUMPY_ARRAYS, Allowed, Dictionary, StandIn, load, load_several

MAX_PICKLE_BYTES = 64 * 2**20
MAX_VALUE_BYTES = 512 * 2**20  # of a data set: some hundred bytes for each of its tensors
ALIGNMENT = 64  # of the values of a storage in the file, as torch has it
_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # a pickled magic number

_STORAGES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4",
    "ShortStorage": "<i2", "CharStorage": "|i1", "ByteStorage": "|u1", "BoolStorage": "|b1",
}  # fmt: skip
_STORAGE_OF = {np.dtype(text): name for name, text in _STORAGES.items()}

# What zipfile raises for bytes that are no zip.
_DAMAGED = (
    zipfile.BadZipFile, KeyError, EOFError, OSError, NotImplementedError, RuntimeError, ValueError, struct.error,
)  # fmt: skip

Arrays = dict[str, NDArray[Any]]


# Reading.


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor's values are: storage, first value, shape and strides in values."""

    key: str
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    numel: int


class _Part(StandIn):
    """Of use in a tensor only."""

    def resolve(self) -> Any:
        raise ValueError("a storage outside of a tensor")


class _StorageType(_Part):
    def __init__(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype)

    def __call__(self, *unused: Any) -> Any:
        raise ValueError("a storage without values")


class _Storage(_Part):
    def __init__(self, key: str, dtype: np.dtype[Any], numel: int) -> None:
        self.key, self.dtype, self.numel = key, dtype, numel


class _Tensor(StandIn):
    """What ``torch._utils._rebuild_tensor_v2`` is called with."""

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *unused: Any) -> None:
        if not isinstance(storage, _Storage):
            raise ValueError("a tensor without a storage")
        sizes, steps = _counts(shape), _counts(strides)
        (first,) = _counts((offset,))
        last = first + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True))
        if math.prod(sizes) and last >= storage.numel:
            raise ValueError(f"a tensor of shape {list(sizes)} goes beyond its storage of {storage.numel} values")
        self._place = _Place(storage.key, storage.dtype, first, sizes, steps, storage.numel)

    def resolve(self) -> _Place:
        return self._place


def _counts(values: Any) -> tuple[int, ...]:
    found = tuple(values)
    if any(not isinstance(n, int) or isinstance(n, bool) or not 0 <= n < 2**40 for n in found):
        raise ValueError(f"{found!r} are no counts")
    return found


def _parameter(data: Any, *unused: Any) -> Any:
    return data


_ALLOWED: Allowed = {
    **NUMPY_ARRAYS,
    ("collections", "OrderedDict"): Dictionary,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{("torch", name): _StorageType(dtype) for name, dtype in _STORAGES.items()},
}


def _persistent(pid: Any) -> StandIn:
    what, kind, key, _, numel, *view = pid
    if any(part is not None for part in view):
        raise ValueError("views of storages are not read")
    if what != "storage" or not isinstance(kind, _StorageType) or not isinstance(key, str):
        raise ValueError("a persistent id that names no storage")
    return _Storage(key, kind.dtype, _counts((numel,))[0])


@lru_cache(maxsize=16)
def _structure(pickled: bytes) -> Any:
    """Value of a ``data.pkl``, its tensors as places. States of one network have the same one, byte for byte."""
    return load(pickled, "data.pkl", _ALLOWED, _persistent)


def read_state_dict(data: bytes, what: str) -> Arrays:
    """Tensors of a saved state dict by name, in its order.

    Raises:
        FormatError: truncated, damaged, or no state dict; the message begins with ``what``.
    """
    if data.startswith(_LEGACY):
        return _read_legacy(data, what)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = {info.filename: info for info in archive.infolist()}
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos.values()):
                raise FormatError(f"{what}: not of torch.save, its entries are compressed")
            roots = [name.removesuffix("data.pkl") for name in infos if name.endswith("/data.pkl")]
            if len(roots) != 1 or infos[f"{roots[0]}data.pkl"].file_size > MAX_PICKLE_BYTES:
                raise FormatError(f"{what}: not of torch.save, it has no data.pkl")
            root = roots[0]
            if f"{root}byteorder" in infos and archive.read(f"{root}byteorder") != b"little":
                raise FormatError(f"{what}: its values are not little-endian")
            places = _places(_structure(archive.read(f"{root}data.pkl")), what)
            storages = {key: archive.read(f"{root}data/{key}") for key in {place.key for place in places.values()}}
            return {name: _array(storages[place.key], place, f"{what}: {name}") for name, place in places.items()}
    except _DAMAGED as error:
        reason = str(error).strip("'\"") or type(error).__name__
        raise FormatError(f"{what}: not readable as a file of torch.save ({reason}); truncated or damaged") from None
    except FormatError as error:
        text = str(error)
        raise FormatError(text if text.startswith(what) else f"{what}: {text}") from None


def read_value(path: Path, allowed: Allowed) -> Any:
    """What a file holds besides the values of its tensors, which are not read: in their place is where they would be.

    Args:
        allowed: names that the file may use beyond those of tensors.

    Raises:
        FormatError: not readable, damaged, or a name that is not allowed.
    """
    names = {**_ALLOWED, **allowed}
    try:
        with path.open("rb") as file:
            if file.read(len(_LEGACY)) == _LEGACY:
                file.seek(0)
                return load_several(file.read(), 5, str(path), names, _persistent)[0][3]
            with zipfile.ZipFile(file) as archive:
                infos = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
                if len(infos) != 1 or infos[0].file_size > MAX_VALUE_BYTES:
                    raise FormatError(f"{path}: not of torch.save, it has no data.pkl")
                pickled = archive.read(infos[0])
    except _DAMAGED as error:
        reason = str(error).strip("'\"") or type(error).__name__
        raise FormatError(f"{path}: not readable as a file of torch.save ({reason})") from None
    return load(pickled, str(path), names, _persistent)


def _read_legacy(data: bytes, what: str) -> Arrays:
    values, position = load_several(data, 5, what, _ALLOWED, _persistent)
    _, _, machine, value, keys = values
    if not isinstance(machine, dict) or machine.get("little_endian") is not True or not isinstance(keys, list):
        raise FormatError(f"{what}: its values are not little-endian")
    places = _places(value, what)
    sizes = {place.key: place.dtype.itemsize for place in places.values()}
    storages: dict[str, bytes] = {}
    for key in keys:
        if key not in sizes or key in storages:
            raise FormatError(f"{what}: holds values of no tensor")
        numel = int.from_bytes(data[position : position + 8], "little")
        start, stop = position + 8, position + 8 + numel * sizes[key]
        if stop > len(data):
            raise FormatError(f"{what}: not readable as a file of torch.save; truncated or damaged")
        storages[key] = data[start:stop]
        position = stop
    if set(storages) != set(sizes):
        raise FormatError(f"{what}: lacks the values of a tensor")
    return {name: _array(storages[place.key], place, f"{what}: {name}") for name, place in places.items()}


def _places(value: Any, what: str) -> dict[str, _Place]:
    if not isinstance(value, dict) or not value or any(not isinstance(name, str) for name in value):
        raise FormatError(f"{what}: holds no state dict")
    for name, place in value.items():
        if not isinstance(place, _Place):
            raise FormatError(f"{what}: {name} is no tensor")
    return value


def _array(data: bytes, place: _Place, what: str) -> NDArray[Any]:
    if len(data) != place.numel * place.dtype.itemsize:
        raise FormatError(f"{what}: {len(data)} bytes of values, expected {place.numel * place.dtype.itemsize}")
    flat = np.frombuffer(data, place.dtype)[place.offset :]
    if math.prod(place.shape) == 0:
        return np.zeros(place.shape, place.dtype)
    size = place.dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        flat, place.shape, tuple(step * size for step in place.strides), writeable=False
    )


# Writing.


def state_dict_bytes(arrays: Mapping[str, NDArray[Any]], name: str) -> bytes:
    """What ``torch.load`` reads as an ``OrderedDict`` of tensors. ``name`` is that of the file without its folder."""
    shapes = tuple((key, array.dtype.newbyteorder("<").str, array.shape) for key, array in arrays.items())
    return _zip(name, _state_dict_pickle(shapes), list(arrays.values()))


def value_bytes(value: Any, name: str) -> bytes:
    """What ``torch.load`` reads as ``value``: dicts, lists, tuples, numbers, strings, None, and arrays as tensors."""
    writer = _Pickle()
    writer.add(value)
    return _zip(name, writer.done(), writer.arrays)


@lru_cache(maxsize=16)
def _state_dict_pickle(shapes: tuple[tuple[str, str, tuple[int, ...]], ...]) -> bytes:
    writer = _Pickle()
    writer.out += b"ccollections\nOrderedDict\n)R("
    for key, dtype, shape in shapes:
        writer.add(key)
        writer.add_tensor(np.dtype(dtype), shape)
    writer.out += b"u"
    return writer.done()


class _Pickle:
    """Protocol 2, no memo, in the opcodes that torch's own restricted unpickler knows."""

    def __init__(self) -> None:
        self.out = bytearray(b"\x80\x02")
        self.arrays: list[NDArray[Any]] = []
        self._num_tensors = 0

    def done(self) -> bytes:
        return bytes(self.out) + b"."

    def add(self, value: Any) -> None:
        match value:
            case None:
                self.out += b"N"
            case bool():
                self.out += b"\x88" if value else b"\x89"
            case int() if -(2**31) <= value < 2**31:
                self.out += b"J" + struct.pack("<i", value)
            case int():
                data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
                self.out += b"\x8a" + bytes([len(data)]) + data
            case float():
                self.out += b"G" + struct.pack(">d", value)
            case str():
                text = value.encode()
                self.out += b"X" + struct.pack("<I", len(text)) + text
            case dict():
                self._all(b"}(", [item for pair in value.items() for item in pair], b"u")
            case list():
                self._all(b"](", value, b"e")
            case tuple():
                self._all(b"(", value, b"t")
            case np.ndarray():
                self.arrays.append(value)
                self.add_tensor(value.dtype, value.shape)
            case _:
                raise TypeError(f"{type(value).__name__} is not written")

    def add_tensor(self, dtype: np.dtype[Any], shape: Sequence[int]) -> None:
        sizes = tuple(int(n) for n in shape)
        strides = tuple(math.prod(sizes[axis + 1 :]) for axis in range(len(sizes)))
        self.out += b"ctorch._utils\n_rebuild_tensor_v2\n(("
        self.add("storage")
        self.out += f"ctorch\n{_STORAGE_OF[dtype.newbyteorder('<')]}\n".encode()
        self.add(str(self._num_tensors))
        self.add("cpu")
        self.add(math.prod(sizes))
        self.out += b"tQ"
        self.add(0)
        self.add(sizes)
        self.add(strides)
        self.out += b"\x89ccollections\nOrderedDict\n)RtR"
        self._num_tensors += 1

    def _all(self, begin: bytes, items: Sequence[Any], end: bytes) -> None:
        self.out += begin
        for item in items:
            self.add(item)
        self.out += end


def _zip(name: str, pickled: bytes, arrays: Sequence[NDArray[Any]]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        _entry(archive, target, f"{name}/data.pkl", pickled)
        _entry(archive, target, f"{name}/byteorder", b"little")
        for number, array in enumerate(arrays):
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            _entry(archive, target, f"{name}/data/{number}", little.tobytes())
        _entry(archive, target, f"{name}/version", b"3\n")
    return target.getvalue()


def _entry(archive: zipfile.ZipFile, target: io.BytesIO, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name)  # its date is 1980-01-01
    info.create_system = 0
    begin = target.tell() + 30 + len(name.encode()) + 4
    padding = -begin % ALIGNMENT
    info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    archive.writestr(info, data)
