"""Content-addressed objects: the key contains the SHA-256, and an object that is read whole is compared with it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, get_args, runtime_checkable

from ..canonical import sha256_hex
from ..errors import DigestMismatch, FormatError, ObjectMissing, ObjectNotFound
from ..keys import ObjectKind, object_key
from .protocol import Data, ObjectStore


@runtime_checkable
class WritesPieces(Protocol):
    """A store that writes an object from several buffers without joining them, and hashes them meanwhile."""

    def put_named(self, pieces: Sequence[Data], key_of: Callable[[str], str]) -> str: ...


_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """Names an object by its content: SHA-256, size and kind."""

    sha256: str
    bytes: int
    kind: ObjectKind

    @property
    def key(self) -> str:
        return object_key(self.sha256, self.kind)

    def to_json(self) -> dict[str, Any]:
        return {"sha256": self.sha256, "bytes": self.bytes, "kind": self.kind}

    @classmethod
    def from_json(cls, value: Any, what: str) -> "ObjectRef":
        """Raises FormatError unless ``value`` is what ``to_json`` writes."""
        if (
            not isinstance(value, dict)
            or set(value) != {"sha256", "bytes", "kind"}
            or value["kind"] not in get_args(ObjectKind)
            or not isinstance(value["bytes"], int)
            or value["bytes"] < 0
            or not is_sha256(value["sha256"])
        ):
            raise FormatError(f"{what}: {str(value)[:100]} does not name an object")
        return cls(value["sha256"], value["bytes"], value["kind"])


def is_sha256(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def ref_of(data: Data, kind: ObjectKind) -> ObjectRef:
    return ObjectRef(sha256_hex(data), len(data), kind)


def put_object(store: ObjectStore, data: Data, kind: ObjectKind) -> ObjectRef:
    """Write ``data`` under its digest, even if the object exists: ``gc`` may be about to delete that."""
    ref = ref_of(data, kind)
    store.put(ref.key, data)
    return ref


def put_pieces(store: ObjectStore, pieces: Sequence[Data], kind: ObjectKind) -> ObjectRef:
    """Write ``pieces``, one after the other, as one object. A directory takes them without joining them in memory."""
    if isinstance(store, WritesPieces):
        size = sum(len(piece) for piece in pieces)
        return ObjectRef(store.put_named(pieces, lambda sha256: object_key(sha256, kind)), size, kind)
    return put_object(store, b"".join(pieces), kind)


def get_object(store: ObjectStore, ref: ObjectRef, what: str) -> bytes:
    """Bytes of the object, checked.

    Args:
        what: the name of what refers to the object, for the message.

    Raises:
        ObjectMissing, DigestMismatch.
    """
    try:
        data, _ = store.get(ref.key, (0, ref.bytes + 1))  # one more than expected, and not all that a server may send
    except ObjectNotFound:
        raise ObjectMissing(f"{what}: object {ref.key} is not in {store.url}") from None
    check_object(data, ref, what)
    return data


def check_object(data: Data, ref: ObjectRef, what: str) -> None:
    """Raises DigestMismatch unless ``data`` is the object."""
    if len(data) != ref.bytes:
        raise DigestMismatch(f"{what}: object {ref.key} has {len(data)} bytes, expected {ref.bytes}")
    actual = sha256_hex(data)
    if actual != ref.sha256:
        raise DigestMismatch(f"{what}: object {ref.key} has SHA-256 {actual[:12]}; it changed after it was written")
