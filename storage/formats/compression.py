"""Lossless compression of the shards of large architectures: differences between epochs, bytes grouped, zstd.

A tensor's values are taken as integers. At a key epoch they are stored as they are, elsewhere as the difference from
the epoch before in zig-zag coding, so that small differences of either sign are small numbers. The lowest bytes of all
integers come first, the highest last, in one zstd frame. Planes of bits, as bitshuffle makes them, were no smaller and
took twice the time (benchmarks/compression.py). Equal values give equal bytes with one zstd library; another library
may give other bytes, so the digest of the values is kept as well as that of the bytes.
"""

import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..canonical import sha256_hex
from ..errors import DigestMismatch, FormatError
from .tensors import DTYPE_OF, Arrays, code_of, decode, encode, parse_header, parse_tensor_name, tensor_name

CompressionName = Literal["none", "delta-zstd"]

CODEC = "delta-zstd"
LEVEL = 3
KEY_EPOCHS = 8
KIND = "compressed"
NUM_PACKERS = 4
BLOCK_WORDS = 2**15  # words handled at once, so that they stay in the processor's cache
MAX_RATIO = 2**15  # largest ratio of a zstd frame: a block of four bytes gives at most 128 KiB


@dataclass(frozen=True, slots=True)
class Compression:
    """The settings of compression. A chain of differences starts again at every multiple of ``key_epochs``."""

    codec: str = CODEC
    level: int = LEVEL
    key_epochs: int = KEY_EPOCHS

    def to_json(self) -> dict[str, Any]:
        return {"codec": self.codec, "level": self.level, "key_epochs": self.key_epochs}

    @classmethod
    def from_json(cls, value: Any) -> "Compression":
        """Raises ValueError for a value that this format does not know."""
        if not isinstance(value, dict) or set(value) != {"codec", "level", "key_epochs"} or value["codec"] != CODEC:
            raise ValueError(f"compression {str(value)[:100]}, this program reads {CODEC}")
        if any(type(value[name]) is not int or value[name] < 1 for name in ("level", "key_epochs")):
            raise ValueError(f"compression {str(value)[:100]}: level and key_epochs are integers from 1 on")
        return cls(value["codec"], value["level"], value["key_epochs"])

    @classmethod
    def named(cls, name: CompressionName) -> "Compression | None":
        return None if name == "none" else cls()


def pack(values: NDArray[Any], base: NDArray[Any] | None, level: int = LEVEL) -> bytes:
    """One zstd frame of ``values``, or of their difference from ``base``, which has the same shape and type.

    ``unpack`` restores every bit: NaN payloads, signs of zeros, denormals.
    """
    import pyarrow as pa

    words = _words(values)
    before = None if base is None else _words(base)
    width, kind = words.dtype.itemsize, words.dtype.type
    octets = np.empty((width, len(words)), np.uint8)
    for start in range(0, len(words), BLOCK_WORDS):
        here = slice(start, start + BLOCK_WORDS)
        block = words[here]
        if before is not None:
            block = block - before[here]
            block = (block << kind(1)) ^ (kind(0) - (block >> kind(8 * width - 1)))
        octets[:, here] = block.view(np.uint8).reshape(-1, width).T
    packed: bytes = pa.Codec("zstd", compression_level=level).compress(octets, asbytes=True)
    return packed


def unpack(
    packed: bytes | memoryview,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    base: NDArray[Any] | None,
    what: str,
) -> NDArray[Any]:
    """The values that ``pack`` packed, in a new array.

    Raises:
        FormatError: not a frame of a tensor of this shape; the message begins with ``what``.
    """
    import pyarrow as pa

    count = math.prod(shape)
    width = dtype.itemsize
    num_bytes = width * count
    if num_bytes > MAX_RATIO * len(packed):
        raise FormatError(f"{what}: {len(packed)} bytes cannot hold a tensor of shape {list(shape)}")
    try:
        raw = pa.Codec("zstd").decompress(packed, num_bytes)
    except (OSError, ValueError) as error:
        raise FormatError(f"{what}: no zstd frame of {num_bytes} bytes ({error})") from None
    octets = np.frombuffer(raw, np.uint8).reshape(width, count)
    before = None if base is None else _words(base)
    words = np.empty(count, f"<u{width}")
    kind = words.dtype.type
    for start in range(0, count, BLOCK_WORDS):
        here = slice(start, start + BLOCK_WORDS)
        block = words[here]
        table = block.view(np.uint8).reshape(-1, width)
        for place in range(width):
            table[:, place] = octets[place, here]
        if before is not None:
            signs = kind(0) - (block & kind(1))
            block >>= kind(1)
            block ^= signs
            block += before[here]
    return words.view(dtype).reshape(shape)


def encode_shard(tensors: Mapping[str, NDArray[Any]], compression: Compression | None) -> memoryview:
    """The bytes of a shard, compressed or plain. ``tensors`` are in the order of fields, then epochs."""
    if compression is None:
        return encode(tensors)
    chained = list(_chained(tensors, compression))

    def one(item: tuple[str, int | None]) -> tuple[bytes, str]:
        name, base = item
        values = np.ascontiguousarray(tensors[name])
        before = None if base is None else tensors[tensor_name(base, parse_tensor_name(name)[1])]
        return pack(values, before, compression.level), sha256_hex(values.reshape(-1).view(np.uint8).data)

    packed: Arrays = {}
    described = {}
    with ThreadPoolExecutor(NUM_PACKERS) as pool:
        for (name, base), (data, sha256) in zip(chained, pool.map(one, chained), strict=True):
            values = tensors[name]
            packed[name] = np.frombuffer(data, np.uint8)
            described[name] = [code_of(values), list(values.shape), base, sha256]
    return encode(packed, {"kind": KIND, **compression.to_json(), "tensors": described})


def _chained(tensors: Mapping[str, NDArray[Any]], compression: Compression) -> Iterator[tuple[str, int | None]]:
    """Each tensor with the epoch that it is the difference from; None for one that is stored as it is."""
    last: dict[str, int] = {}
    for name, values in tensors.items():
        epoch, field = parse_tensor_name(name)
        base = last.get(field)
        if base is not None:
            before = tensors[tensor_name(base, field)]
            if base // compression.key_epochs != epoch // compression.key_epochs or before.shape != values.shape:
                base = None
        yield name, base
        last[field] = epoch


@dataclass(frozen=True, slots=True)
class Packed:
    """A tensor of a compressed shard: type and shape of its values, the epoch of its base, the digest of its values."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    base: int | None
    values_sha256: str


def packed_tensors(provenance: Any, what: str) -> tuple[Compression, dict[str, Packed]] | None:
    """The compression of a shard and its tensors, from the metadata in its header; None if it is not compressed.

    Raises FormatError.
    """
    if not isinstance(provenance, dict) or provenance.get("kind") != KIND:
        return None
    try:
        compression = Compression.from_json({name: provenance[name] for name in ("codec", "level", "key_epochs")})
        tensors = {}
        for name, (code, shape, base, sha256) in provenance["tensors"].items():
            if any(type(n) is not int or not 0 <= n < 2**40 for n in shape) or not isinstance(sha256, str):
                raise ValueError(f"tensor {name!r} of shape {str(shape)[:100]}")
            tensors[name] = Packed(DTYPE_OF[code], tuple(shape), base, sha256)
            if base is not None and not (type(base) is int and 0 <= base < parse_tensor_name(name)[0]):
                raise ValueError(f"tensor {name!r} follows epoch {str(base)[:20]}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{what}: not a compressed shard of this format ({error})") from None
    return compression, tensors


def decode_shard(data: bytes | memoryview, what: str) -> Arrays:
    """All tensors of a shard or of a part's weights, compressed or plain. Raises FormatError, DigestMismatch."""
    arrays, provenance = decode(data, what)
    described = packed_tensors(provenance, what)
    if described is None and provenance is not None:
        raise FormatError(f"{what}: holds more than values")
    if described is None:
        return arrays
    if set(described[1]) != set(arrays):
        raise FormatError(f"{what}: its header describes other tensors than it has")
    unpacked: Arrays = {}
    for name in sorted(arrays, key=lambda name: parse_tensor_name(name)[::-1]):
        entry, field = described[1][name], parse_tensor_name(name)[1]
        base = None if entry.base is None else unpacked.get(tensor_name(entry.base, field))
        if entry.base is not None and (base is None or base.shape != entry.shape or base.dtype != entry.dtype):
            raise FormatError(
                f"{what}: tensor {name} follows epoch {entry.base}, which is not here or of another shape"
            )
        values = unpack(arrays[name].data, entry.dtype, entry.shape, base, f"{what}: tensor {name}")
        check_values(values, entry.values_sha256, f"{what}: tensor {name}")
        unpacked[name] = values
    return unpacked


def check_values(values: NDArray[Any], sha256: str, what: str) -> None:
    """Raises DigestMismatch unless these are the values that were compressed."""
    actual = sha256_hex(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    if actual != sha256:
        raise DigestMismatch(f"{what}: its values have SHA-256 {actual[:12]}, expected {sha256[:12]}")


def packed_in(data: memoryview, what: str) -> dict[str, Packed]:
    """The ``packed_tensors`` of a whole shard; empty if it is not compressed."""
    described = packed_tensors(parse_header(data, len(data), what).provenance, what)
    return {} if described is None else described[1]


def _words(values: NDArray[Any]) -> NDArray[np.unsignedinteger]:
    """The bits of ``values`` as little-endian unsigned integers [n]."""
    flat = np.ascontiguousarray(values).reshape(-1)
    little = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    return little.view(f"<u{flat.dtype.itemsize}")
