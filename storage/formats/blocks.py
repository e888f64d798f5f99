"""Digests of 64 KiB blocks of tensors, so that reading one state hashes a block or two and not an epoch of a shard.

In a manifest that names ``blocks``, a tensor's digest is the SHA-256 over the digests of its blocks; its last block may
be shorter. The object ``blocks`` holds all digests: for each shard a tensor named by the shard's SHA-256, U8
[blocks, 32], with the blocks of the shard's tensors in the order of their bytes.
"""

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from ..canonical import sha256_hex
from ..errors import FormatError
from ..stores.objects import ObjectRef, get_object, put_object
from ..stores.protocol import ObjectStore
from .manifest import Manifest
from .shards import ShardEntry
from .tensors import Arrays, decode, encode

BLOCK_BYTES = 64 * 1024
DIGEST_BYTES = 32

Digests = NDArray[np.uint8]  # [blocks, 32]


def block_digests(data: memoryview) -> bytes:
    """The digests of the blocks of one tensor's bytes, concatenated."""
    sha256 = hashlib.sha256
    return b"".join([sha256(data[i : i + BLOCK_BYTES]).digest() for i in range(0, len(data), BLOCK_BYTES)])


def tensor_digest(data: memoryview, manifest: Manifest) -> str:
    """The digest, in hex, that ``manifest`` must have for a tensor of these bytes."""
    return sha256_hex(data if manifest.blocks is None else block_digests(data))


def digests_array(digests: Iterable[bytes]) -> Digests:
    """The ``block_digests`` of a shard's tensors, in the order of their bytes, as the object ``blocks`` holds them."""
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)


class BlockTable:
    """Digests of the blocks of a manifest's shards."""

    def __init__(self, arrays: Mapping[str, NDArray[np.uint8]], shards: Iterable[ShardEntry], what: str) -> None:
        """Raises FormatError unless ``arrays`` holds the digests of all blocks of ``shards`` and nothing else."""
        self._digests: dict[str, dict[int, bytes]] = {}
        for shard in shards:
            array = arrays.get(shard.ref.sha256)
            sizes = {t.start: -(-(t.stop - t.start) // BLOCK_BYTES) for t in shard.tensors.values()}
            count = sum(sizes.values())
            if array is None or array.dtype != np.uint8 or array.shape != (count, DIGEST_BYTES):
                raise FormatError(f"{what}: does not hold the digests of the {count} blocks of {shard.ref.key}")
            data, position = array.tobytes(), 0
            by_start = self._digests.setdefault(shard.ref.sha256, {})
            for start in sorted(sizes):
                end = position + sizes[start] * DIGEST_BYTES
                by_start[start], position = data[position:end], end
        if set(arrays) != set(self._digests):
            odd = sorted(set(arrays) - set(self._digests))[0]
            raise FormatError(f"{what}: holds digests of {odd}, which is no shard of the manifest")

    def digest(self, shard: ShardEntry, start: int, block: int) -> bytes:
        """Digest of a block of the tensor that begins at byte ``start`` of the shard."""
        return self._digests[shard.ref.sha256][start][block * DIGEST_BYTES : (block + 1) * DIGEST_BYTES]

    def of_tensor(self, shard: ShardEntry, start: int) -> bytes:
        """Digests of all blocks of the tensor that begins at byte ``start`` of the shard."""
        return self._digests[shard.ref.sha256][start]


def write_blocks(
    store: ObjectStore, digests: Mapping[str, NDArray[np.uint8]], shards: Iterable[ShardEntry]
) -> ObjectRef | None:
    """Put the object that holds the digests of the blocks of ``shards``. None where the shards have none.

    Args:
        digests: block digests by the shard's SHA-256, of these shards at least.
    """
    names = sorted({shard.ref.sha256 for shard in shards})
    if not any(name in digests for name in names):
        return None
    return put_object(store, encode({name: digests[name] for name in names}), "safetensors")


def read_blocks(store: ObjectStore, manifest: Manifest) -> Arrays:
    """Block digests of a manifest's shards by the shard's SHA-256; empty where the manifest names no ``blocks``.

    Raises ObjectMissing, DigestMismatch, FormatError.
    """
    if manifest.blocks is None:
        return {}
    return decode(get_object(store, manifest.blocks, f"zoo {manifest.zoo!r}, blocks"), manifest.blocks.key)[0]
