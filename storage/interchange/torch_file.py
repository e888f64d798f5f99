"""Read and write files of ``torch.save`` without torch: no code of a file runs, and equal values give equal bytes.

Since torch 1.6 a file is a zip of stored entries: ``data.pkl``, a pickle whose tensors name storages by persistent ids,
and ``data/KEY``, the values of each storage. Before, it was five pickles (a magic number, version, machine, value, keys
of storages), then the number and the values of each storage. Both are read; the first is written.
"""

import io
import math
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..budget import CHECKPOINT, DATA_SET_FILE
from ..errors import BudgetExceeded, FormatError
from ..formats.restricted_pickle import (
    NUMPY_ARRAYS,
    Allowed,
    Dictionary,
    StandIn,
    counts,
    load,
    load_several,
    one_line,
)
from .small_floats import FLOAT8, bfloat16

MAX_PICKLE_BYTES = 16 * 2**20  # the pickle of a state dict takes some hundred bytes per tensor
MAX_VALUE_BYTES = 512 * 2**20  # the pickle of a data set takes some hundred bytes per tensor
CACHED_PICKLE_BYTES = 2**20
ALIGNMENT = 64  # torch aligns the values of storages in the file so too
_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # a pickled magic number

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class _Kind:
    """The element type of a storage's values in the file. ``widen`` converts a type that numpy lacks to float32."""

    dtype: np.dtype[Any]
    widen: Callable[[NDArray[Any]], NDArray[np.float32]] | None = None


_NUMPY_STORAGES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4",
    "ShortStorage": "<i2", "CharStorage": "|i1", "ByteStorage": "|u1", "BoolStorage": "|b1",
}  # fmt: skip
_STORAGES = {name: _Kind(np.dtype(text)) for name, text in _NUMPY_STORAGES.items()} | {
    "BFloat16Storage": _Kind(np.dtype("<u2"), bfloat16)
}
_STORAGE_OF = {np.dtype(text): name for name, text in _NUMPY_STORAGES.items()}


# Reading.


@dataclass(frozen=True, slots=True)
class _Place:
    """The place of a tensor's values: storage, first value, shape and strides in values, size of the storage."""

    key: str
    kind: _Kind
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    numel: int


class _Part(StandIn):
    """An object that has a meaning only in a tensor."""

    def resolve(self) -> Any:
        raise ValueError("a part of a tensor outside of a tensor")


class _StorageType(_Part):
    def __init__(self, kind: _Kind) -> None:
        self.kind = kind


class _Bytes(_StorageType):
    """``torch.storage.UntypedStorage``, whose element type the tensor names."""


class _ElementType(_Part):
    """A ``torch.dtype`` without a storage class."""

    def __init__(self, kind: _Kind) -> None:
        self.kind = kind


class _Storage(_Part):
    def __init__(self, key: str, kind: _Kind, numel: int) -> None:
        self.key, self.kind, self.numel = key, kind, numel


class _Tensor(StandIn):
    """The arguments of ``torch._utils._rebuild_tensor_v2``."""

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *unused: Any) -> None:
        if not isinstance(storage, _Storage):
            raise ValueError("a tensor without a storage")
        sizes, steps = counts(shape), counts(strides)
        (first,) = counts((offset,))
        last = first + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True))
        if math.prod(sizes) and last >= storage.numel:
            raise ValueError(f"a tensor of shape {list(sizes)} goes beyond its storage of {storage.numel} values")
        if math.prod(sizes) > storage.numel:
            raise ValueError(f"a tensor of shape {list(sizes)} repeats the {storage.numel} values of its storage")
        self._place = _Place(storage.key, storage.kind, first, sizes, steps, storage.numel)

    def resolve(self) -> _Place:
        return self._place


def _tensor_of_type(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *unused: Any
) -> _Tensor:
    """The arguments of ``torch._utils._rebuild_tensor_v3``: the storage counts bytes, the tensor names their type."""
    if not isinstance(storage, _Storage) or not isinstance(dtype, _ElementType):
        raise ValueError("a tensor without a storage or an element type")
    typed = _Storage(storage.key, dtype.kind, storage.numel // dtype.kind.dtype.itemsize)
    return _Tensor(typed, offset, shape, strides)


def _parameter(data: Any, *unused: Any) -> Any:
    return data


_ALLOWED: Allowed = {
    **NUMPY_ARRAYS,
    ("collections", "OrderedDict"): Dictionary,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_type,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.storage", "UntypedStorage"): _Bytes(_STORAGES["ByteStorage"]),
    **{("torch", name): _StorageType(kind) for name, kind in _STORAGES.items()},
    **{("torch", name): _ElementType(_Kind(np.dtype("u1"), widen)) for name, widen in FLOAT8.items()},
}


def _persistent(pid: Any) -> StandIn:
    if not isinstance(pid, tuple) or len(pid) not in (5, 6) or (len(pid) == 6 and pid[5] is not None):
        raise ValueError("a persistent id that names no storage, or a view of one")
    what, kind, key, _, numel = pid[:5]
    if what != "storage" or not isinstance(kind, _StorageType) or not isinstance(key, str):
        raise ValueError("a persistent id that names no storage")
    return _Storage(key, kind.kind, counts((numel,))[0])


def _structure(pickled: bytes) -> Any:
    """Value of a ``data.pkl``, with places in place of tensors."""
    return load(pickled, "data.pkl", _ALLOWED, _persistent, CHECKPOINT)


_cached_structure = lru_cache(maxsize=16)(_structure)  # states of one network have equal ones


@contextmanager
def _errors_of(what: str) -> Iterator[None]:
    """Turn every exception of a damaged file into a FormatError that begins with ``what``."""
    try:
        yield
    except BudgetExceeded as error:
        raise BudgetExceeded(_beginning(what, str(error))) from None
    except FormatError as error:
        raise FormatError(_beginning(what, str(error))) from None
    except Exception as error:  # zipfile, numpy and the pickle each raise their own
        reason = f"not readable as a file of torch.save ({one_line(error)}); truncated or damaged"
        raise FormatError(f"{what}: {reason}") from None


def _beginning(what: str, text: str) -> str:
    return text if text.startswith(what) else f"{what}: {text}"


def is_torch_file(path: Path) -> bool:
    """True if the file begins like one of ``torch.save``. Raises OSError."""
    with path.open("rb") as file:
        begin = file.read(len(_LEGACY))
    return begin == _LEGACY or begin.startswith(b"PK\x03\x04")


def read_state_dict_file(path: Path, what: str) -> Arrays:
    """Like ``read_state_dict``, for a file. Also raises OSError."""
    CHECKPOINT.meter(what).add(num_bytes=path.stat().st_size)
    return read_state_dict(path.read_bytes(), what)


def read_state_dict(data: bytes, what: str) -> Arrays:
    """Tensors of a saved state dict by name, in its order. bfloat16 and 8-bit floats come as float32, without loss.

    Raises:
        BudgetExceeded: larger than ``budget.CHECKPOINT``.
        FormatError: truncated, damaged, or no state dict. Every message begins with ``what``.
    """
    with _errors_of(what):
        return _read_legacy(data, what) if data.startswith(_LEGACY) else _read_zip(data)


def _read_zip(data: bytes) -> Arrays:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos.values()):
            raise FormatError("not of torch.save, its entries are compressed")
        roots = [name.removesuffix("data.pkl") for name in infos if name.endswith("/data.pkl")]
        if len(roots) != 1 or infos[f"{roots[0]}data.pkl"].file_size > MAX_PICKLE_BYTES:
            raise FormatError("not of torch.save, it has no data.pkl")
        root = roots[0]
        if f"{root}byteorder" in infos and archive.read(f"{root}byteorder") != b"little":
            raise FormatError("its values are not little-endian")
        pickled = archive.read(f"{root}data.pkl")
        structure = _cached_structure if len(pickled) <= CACHED_PICKLE_BYTES else _structure
        places = _places(structure(pickled))
        keys = {place.key for place in places.values()}
        if sum(infos[f"{root}data/{key}"].file_size for key in keys) > len(data):
            raise FormatError("its storages overlap")
        return _arrays(places, {key: archive.read(f"{root}data/{key}") for key in keys})


def _read_legacy(data: bytes, what: str) -> Arrays:
    values, position = load_several(data, 5, what, _ALLOWED, _persistent, CHECKPOINT)
    _, _, machine, value, keys = values
    if not isinstance(machine, dict) or machine.get("little_endian") is not True or not isinstance(keys, list):
        raise FormatError("its values are not little-endian")
    places = _places(value)
    sizes = {place.key: place.kind.dtype.itemsize for place in places.values()}
    storages: dict[str, bytes] = {}
    for key in keys:
        if not isinstance(key, str) or key not in sizes or key in storages:
            raise FormatError("holds values of no tensor")
        numel = int.from_bytes(data[position : position + 8], "little")
        start, stop = position + 8, position + 8 + numel * sizes[key]
        if stop > len(data):
            raise FormatError("not readable as a file of torch.save; truncated or damaged")
        storages[key] = data[start:stop]
        position = stop
    if set(storages) != set(sizes):
        raise FormatError("lacks the values of a tensor")
    return _arrays(places, storages)


def _places(value: Any) -> dict[str, _Place]:
    if not isinstance(value, dict) or not value or any(not isinstance(name, str) for name in value):
        raise FormatError("holds no state dict")
    kinds: dict[str, _Kind] = {}
    for name, place in value.items():
        if not name.isprintable() or len(name) > 500:
            raise FormatError("a tensor whose name is no line of text")
        if not isinstance(place, _Place):
            raise FormatError(f"{name} is no tensor")
        if kinds.setdefault(place.key, place.kind) != place.kind:
            raise FormatError(f"{name} shares values with a tensor of another type")
    return value


def _arrays(places: Mapping[str, _Place], storages: Mapping[str, bytes]) -> Arrays:
    """The tensors. Tied ones share values, but a small file does not become a large array."""
    num_values = sum(math.prod(place.shape) for place in places.values())
    numel = {place.key: place.numel for place in places.values()}
    if num_values > 2 * sum(numel.values()):
        raise FormatError(f"its tensors have {num_values:,} values, its storages {sum(numel.values()):,}")
    flat: dict[str, NDArray[Any]] = {}
    for name, place in places.items():
        if place.key not in flat:
            expected = place.numel * place.kind.dtype.itemsize
            if len(storages[place.key]) != expected:
                raise FormatError(f"{name}: {len(storages[place.key])} bytes of values, expected {expected}")
            values = np.frombuffer(storages[place.key], place.kind.dtype)
            flat[place.key] = values if place.kind.widen is None else place.kind.widen(values)
    return {name: _array(flat[place.key], place) for name, place in places.items()}


def _array(flat: NDArray[Any], place: _Place) -> NDArray[Any]:
    if math.prod(place.shape) == 0:
        return np.zeros(place.shape, flat.dtype)
    strides = tuple(step * flat.itemsize for step in place.strides)
    return np.lib.stride_tricks.as_strided(flat[place.offset :], place.shape, strides, writeable=False)


def read_value(path: Path, allowed: Allowed) -> Any:
    """The value of a file without the values of its tensors, which are not read.

    Args:
        allowed: names that the file may use beyond those of tensors.

    Raises:
        BudgetExceeded: larger than ``budget.DATA_SET_FILE``.
        FormatError: not readable, damaged, or a name that is not allowed.
    """
    what = str(path)
    parse = partial(load_several, what=what, allowed={**_ALLOWED, **allowed}, persistent=_persistent)
    with _errors_of(what), path.open("rb") as file:
        if file.read(len(_LEGACY)) == _LEGACY:
            file.seek(0)
            DATA_SET_FILE.meter(what).add(num_bytes=path.stat().st_size)
            return parse(file.read(), 5, limits=DATA_SET_FILE)[0][3]
        with zipfile.ZipFile(file) as archive:
            infos = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
            if len(infos) != 1 or infos[0].file_size > MAX_VALUE_BYTES:
                raise FormatError("not of torch.save, it has no data.pkl")
            return parse(archive.read(infos[0]), 1, limits=DATA_SET_FILE)[0][0]


# Writing.


def state_dict_bytes(arrays: Mapping[str, NDArray[Any]], name: str) -> bytes:
    """Bytes that ``torch.load`` reads as an ``OrderedDict`` of tensors. ``name``: of the file, without its folder."""
    shapes = tuple((key, array.dtype.newbyteorder("<").str, array.shape) for key, array in arrays.items())
    return _zip(name, _state_dict_pickle(shapes), list(arrays.values()))


def value_bytes(value: Any, name: str) -> bytes:
    """Bytes that ``torch.load`` reads as ``value``: dicts, lists, tuples, numbers, strings, None; arrays as tensors."""
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
    """A writer of protocol 2, without memo, that uses only opcodes of torch's own restricted unpickler."""

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


def write_value(path: Path, value: Any) -> None:
    """Write the bytes of ``value_bytes`` to a file, one array after the other, since arrays may be memory maps."""
    writer = _Pickle()
    writer.add(value)
    with path.open("wb") as file:
        _write_zip(file, path.stem, writer.done(), writer.arrays)


def _zip(name: str, pickled: bytes, arrays: Sequence[NDArray[Any]]) -> bytes:
    target = io.BytesIO()
    _write_zip(target, name, pickled, arrays)
    return target.getvalue()


def _write_zip(target: IO[bytes], name: str, pickled: bytes, arrays: Sequence[NDArray[Any]]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        _entry(archive, target, f"{name}/data.pkl", pickled)
        _entry(archive, target, f"{name}/byteorder", b"little")
        for number, array in enumerate(arrays):
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            _entry(archive, target, f"{name}/data/{number}", little.reshape(-1).view(np.uint8).data)
        _entry(archive, target, f"{name}/version", b"3\n")


def _entry(archive: zipfile.ZipFile, target: IO[bytes], name: str, data: bytes | memoryview) -> None:
    info = zipfile.ZipInfo(name)  # its date is 1980-01-01
    info.create_system = 0
    begin = target.tell() + 30 + len(name.encode()) + 4
    padding = -begin % ALIGNMENT
    info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    archive.writestr(info, data)
