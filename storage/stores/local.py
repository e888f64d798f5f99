"""A directory as a store, safe between threads, processes and machines that share it.

An object is a file that never changes: it is written beside the tree, synced, then linked (if absent) or renamed into
place. Only replacing takes a lock (``flock``; NFSv4 and Lustre mounted with ``-o flock`` carry it between machines).
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..errors import AccessDenied, ObjectNotFound, PreconditionFailed, StorageError, StoreUnreachable
from ..keys import checked_key, parse_object_key
from .protocol import ByteRange, Data, Stat, Traffic
from .threads import beside

_TEMPORARY = ".tmp"
_LOCKS = ".locks"
HASH_BESIDE_BYTES = 2**20  # below it a thread would cost more than it saves
_thread_locks = [threading.Lock() for _ in range(64)]


class LocalStore:
    """The protocol over a directory, which the first write creates."""

    clock_ahead_seconds = 0.0

    def __init__(self, root: Path) -> None:
        self.root: Path = root.expanduser().absolute()
        self.url = self.root.as_uri()
        self.traffic = Traffic()

    def path(self, key: str) -> Path:
        """Where the object's bytes are: for readers that map them into memory."""
        return self.root / checked_key(key)

    def get(self, key: str, byte_range: ByteRange | None = None) -> tuple[bytes, str]:
        try:
            with self.path(key).open("rb", buffering=0) as file:
                etag = _etag(os.fstat(file.fileno()))
                if byte_range is not None:
                    file.seek(byte_range[0])
                    data = _read(file.fileno(), max(0, byte_range[1] - byte_range[0]))
                else:
                    data = file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ObjectNotFound(f"{self.url}: no object {key}") from None
        except OSError as error:
            raise self._failed(error, f"read {key}") from None
        self.traffic.add(read=len(data))
        return data, etag

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        path = self.path(key)
        with self._writing(key):
            temporary, etag = self._write_temporary([data])
            self._move(temporary, path, key, if_absent, if_match)
        self.traffic.add(written=len(data))
        return etag

    def put_named(self, pieces: Sequence[Data], key_of: Callable[[str], str]) -> str:
        """Write ``pieces``, one behind the other, under the key that ``key_of`` makes of their SHA-256; that, in hex.

        They are hashed while they are written, and not put together in memory.
        """
        size = sum(len(piece) for piece in pieces)
        waiting = beside(lambda: _digest(pieces)) if size >= HASH_BESIDE_BYTES else lambda: _digest(pieces)
        with self._writing("an object"):
            temporary, _ = self._write_temporary(pieces)
            sha256 = waiting()
            key = key_of(sha256)
            self._move(temporary, self.path(key), key, False, None)
        self.traffic.add(written=size)
        return sha256

    @contextlib.contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            raise PreconditionFailed(f"{self.url}: {what} exists") from None
        except OSError as error:
            raise self._failed(error, f"write {what}") from None

    def _move(self, temporary: Path, path: Path, key: str, if_absent: bool, if_match: str | None) -> None:
        """Put a written file into its place; it is gone from where it was, whatever happens."""
        try:
            while True:
                self._make_folder(path.parent)
                try:
                    self._place(temporary, path, key, if_absent, if_match)
                    break
                except FileNotFoundError:  # a deleter took the empty folder away again
                    if not temporary.exists():
                        raise
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()

    def _place(self, temporary: Path, path: Path, key: str, if_absent: bool, if_match: str | None) -> None:
        if if_absent:
            # A link fails where a name exists, on every POSIX file system; rename would replace it.
            os.link(temporary, path)
        else:
            with self._locked(key):
                if if_match is not None and _etag_of(path) != if_match:
                    raise PreconditionFailed(f"{self.url}: {key} has changed")
                temporary.replace(path)
        with contextlib.suppress(FileNotFoundError):  # deleted already, and its folder with it
            _sync_folder(path.parent)

    def stat(self, key: str) -> Stat | None:
        try:
            found = self.path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._failed(error, f"stat {key}") from None
        return Stat(key, found.st_size, _etag(found), found.st_mtime) if _is_file(found) else None

    def list(self, prefix: str) -> Iterator[Stat]:
        folder = prefix.rpartition("/")[0]
        try:
            yield from self._walk(self.root / folder if folder else self.root, f"{folder}/" if folder else "", prefix)
        except OSError as error:
            raise self._failed(error, f"list {prefix}") from None

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        try:
            with self._locked(key):
                if if_match is not None and _etag_of(self.path(key)) not in (None, if_match):
                    raise PreconditionFailed(f"{self.url}: {key} has changed")
                self.path(key).unlink(missing_ok=True)
            if parse_object_key(key) is None:  # the next object would make its folder again, and wait for the disk
                self._drop_empty(self.path(key).parent)
        except NotADirectoryError:
            return
        except OSError as error:
            raise self._failed(error, f"delete {key}") from None

    def _drop_empty(self, folder: Path) -> None:
        """Keys make folders, so folders without keys go with the last one."""
        while folder != self.root:
            try:
                folder.rmdir()
            except OSError:  # not empty, or somebody else was faster
                return
            folder = folder.parent

    def _walk(self, folder: Path, base: str, prefix: str) -> Iterator[Stat]:
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        names = {entry.name + ("/" if entry.is_dir() else ""): entry for entry in entries if entry.name[0] != "."}
        for name in sorted(names):
            key = base + name
            if name.endswith("/"):
                if key.startswith(prefix) or prefix.startswith(key):
                    yield from self._walk(folder / name, key, prefix)
            elif key.startswith(prefix):
                try:
                    found = names[name].stat()
                except FileNotFoundError:  # deleted while we were looking
                    continue
                yield Stat(key, found.st_size, _etag(found), found.st_mtime)

    def _write_temporary(self, pieces: Sequence[Data]) -> tuple[Path, str]:
        folder = self.root / _TEMPORARY
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{os.getpid()}-{secrets.token_hex(8)}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            for piece in pieces:
                view = memoryview(piece).cast("B")
                while view:
                    view = view[os.write(descriptor, view) :]
            # Inode numbers are used again and clocks tick in milliseconds: random nanoseconds keep etags apart.
            tick = os.fstat(descriptor).st_mtime_ns // 1_000_000 * 1_000_000 + secrets.randbelow(1_000_000)
            os.utime(descriptor, ns=(tick, tick))
            os.fsync(descriptor)
            return path, _etag(os.fstat(descriptor))
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        try:
            folder.mkdir(exist_ok=True)
            _sync_folder(folder.parent)
        except FileNotFoundError:  # as in put
            self._make_folder(folder)

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        number = hashlib.sha256(key.encode()).digest()[0] % len(_thread_locks)
        folder = self.root / _LOCKS
        folder.mkdir(parents=True, exist_ok=True)
        with _thread_locks[number]:  # NFS turns flock into a lock of the process, which threads share
            descriptor = os.open(folder / f"{number:02d}", os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)

    def _failed(self, error: OSError, what: str) -> StorageError:
        reason = error.strerror or type(error).__name__
        if isinstance(error, PermissionError):
            return AccessDenied(f"{self.url}: may not {what} ({reason}); check the directory's owner and mode")
        return StoreUnreachable(f"{self.url}: cannot {what} ({reason}); check the path, its disk and its mount")


def _read(descriptor: int, size: int) -> bytes:
    chunks = []
    while size and (chunk := os.read(descriptor, size)):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def _digest(pieces: Sequence[Data]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _etag(found: os.stat_result) -> str:
    return f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"


def _etag_of(path: Path) -> str | None:
    try:
        return _etag(path.stat())
    except FileNotFoundError:
        return None


def _is_file(found: os.stat_result) -> bool:
    return (found.st_mode & 0o170000) == 0o100000


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
