"""Dataset files in an object store, so that workers never ask the internet."""

import contextlib
import hashlib
import mmap
from dataclasses import dataclass
from pathlib import Path

from zooforge.storage.canonical import digest_of
from zooforge.storage.errors import PreconditionFailed
from zooforge.storage.keys import dataset_key
from zooforge.storage.stores.protocol import ObjectStore

from ..errors import InputError
from .contents import CHUNK_BYTES
from .registry import LockedFile, dataset_entry
from .sources import content_key, verified_files

RANGE_BYTES = 64 << 20
SUMS = "SHA256SUMS"  # written last: if it exists, the mirror is complete


def mirror_digest(dataset: str) -> str:
    """Name of a dataset's folder in a store: a digest of the names and checksums of its files."""
    return digest_of(content_key(dataset_entry(dataset)))


def is_mirrored(store: ObjectStore, dataset: str) -> bool:
    return store.stat(_key(dataset, SUMS)) is not None


def mirror(store: ObjectStore, dataset: str, source: Path | None) -> int:
    """Copy the files of ``dataset`` into ``store``; nothing is sent if the store has them. Returns the bytes sent.

    Raises InputError where a file is missing here or not the locked one.
    """
    files = verified_files(dataset, source)
    if is_mirrored(store, dataset):
        return 0
    sums, sent = [], 0
    for name, path in files.items():
        sent += send(store, _key(dataset, name), path)
        with path.open("rb") as stream:
            sums.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {name}\n")
    # Another process mirrors the same files; its copy is as good as ours.
    with contextlib.suppress(PreconditionFailed):
        store.put(_key(dataset, SUMS), "".join(sums).encode("ascii"), if_absent=True)
    return sent


@dataclass(frozen=True)
class Mirror:
    """An origin of files: the store that ``mirror`` filled."""

    store: ObjectStore

    def get(self, dataset: str, file: LockedFile, to: Path) -> str:
        key = _key(dataset, file.name)
        if not receive(self.store, key, to):
            raise InputError(
                f"{dataset}: {file.name} is not in {self.store.url}; `zoo data mirror {dataset}` puts it there"
            )
        return f"{self.store.url}/{key}"


def receive(store: ObjectStore, key: str, to: Path) -> bool:
    """Copy an object into the file ``to``, piece by piece. False, without a file, if there is no such object."""
    stat = store.stat(key)
    if stat is None:
        return False
    with to.open("wb") as out:
        for start in range(0, stat.size, RANGE_BYTES):
            out.write(store.get(key, (start, min(start + RANGE_BYTES, stat.size)))[0])
    return True


def send(store: ObjectStore, key: str, path: Path) -> int:
    """Copy a file to an object and return its bytes. The file is mapped, not read into memory."""
    size = path.stat().st_size
    if size <= CHUNK_BYTES:
        store.put(key, path.read_bytes())
        return size
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        try:
            store.put(key, view)
        finally:
            view.release()
    return size


def _key(dataset: str, name: str) -> str:
    return dataset_key(dataset, mirror_digest(dataset), name)
