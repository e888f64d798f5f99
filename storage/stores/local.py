"""A directory as a store, safe between threads, processes and machines that share it.

An object is a file that never changes: it is written to ``.tmp/``, synced, then linked (if absent) or renamed into its
place. Only replacing and deleting take a lock (``flock``; NFSv4 and Lustre mounted with ``-o flock`` carry it between
machines). POSIX is needed to write; reading works wherever Python does.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ..errors import AccessDenied, NotSupported, ObjectNotFound, PreconditionFailed, StorageError, StoreUnreachable
from ..keys import checked_key, parse_object_key
from .protocol import ByteRange, Data, Stat, Traffic
from .threads import run_in_thread

T = TypeVar("T")

_TEMPORARY = ".tmp"
_LOCKS = ".locks"
THREAD_BYTES = 2**20  # for fewer bytes, a separate thread for hashing would cost more than it saves
STALE_ATTEMPTS = 5
ABANDONED_SECONDS = 24 * 3600.0
_MISSING = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK, errno.EMLINK}
_thread_locks = [threading.Lock() for _ in range(64)]


class LocalStore:
    """The store protocol over a directory. The first write creates the directory."""

    clock_ahead_seconds = 0.0

    def __init__(self, root: Path, *, single_writer: bool = False) -> None:
        """
        Args:
            single_writer: the caller guarantees that nothing else writes; allow a file system without links or locks.
        """
        self.root: Path = root.expanduser().absolute()
        self.url = self.root.as_uri()
        self.traffic = Traffic()
        self.single_writer = single_writer
        self._is_tidy = False

    def path(self, key: str) -> Path:
        """The file that holds the object."""
        return self.root / checked_key(key)

    def get(self, key: str, byte_range: ByteRange | None = None) -> tuple[bytes, str]:
        path = self.path(key)

        def read() -> tuple[bytes, str]:
            try:
                file = path.open("rb", buffering=0)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise ObjectNotFound(f"{self.url}: no object {key}") from None
            with file:
                etag = _etag(os.fstat(file.fileno()))
                if byte_range is None:
                    return file.read(), etag
                file.seek(byte_range[0])
                return _read(file.fileno(), max(0, byte_range[1] - byte_range[0])), etag

        with self._named(f"read {key}"):
            data, etag = _not_stale(read)
        self.traffic.add(read=len(data))
        return data, etag

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        path = self.path(key)
        with self._named(f"write {key}"):
            temporary, etag = self._write_temporary([data])
            self._move(temporary, path, key, if_absent, if_match)
        self.traffic.add(written=len(data))
        return etag

    def put_named(self, pieces: Sequence[Data], key_of: Callable[[str], str]) -> str:
        """Write ``pieces``, one after the other, under the key that ``key_of`` makes of their SHA-256. Returns that.

        They are hashed while they are written, and are not joined in memory.
        """
        size = sum(len(piece) for piece in pieces)
        digest = run_in_thread(lambda: _digest(pieces)) if size >= THREAD_BYTES else lambda: _digest(pieces)
        with self._named("write an object"):
            temporary, _ = self._write_temporary(pieces)
            sha256 = digest()
            key = key_of(sha256)
            self._move(temporary, self.path(key), key, False, None)
        self.traffic.add(written=size)
        return sha256

    def stat(self, key: str) -> Stat | None:
        path = self.path(key)
        with self._named(f"stat {key}"):
            try:
                status = _not_stale(path.stat)
            except (FileNotFoundError, NotADirectoryError):
                return None
        return Stat(key, status.st_size, _etag(status), status.st_mtime) if _is_file(status) else None

    def list(self, prefix: str) -> Iterator[Stat]:
        folder = prefix.rpartition("/")[0]
        with self._named(f"list {prefix}"):
            yield from self._walk(self.root / folder if folder else self.root, f"{folder}/" if folder else "", prefix)

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        path = self.path(key)
        with self._named(f"delete {key}"):
            if not path.is_file():
                return
            with self._locked(key):
                if if_match is not None and _etag_of(path) not in (None, if_match):
                    raise PreconditionFailed(f"{self.url}: {key} has changed")
                path.unlink(missing_ok=True)
            if parse_object_key(key) is None:  # the next object would make its folder again, and wait for the disk
                self._drop_empty(path.parent)

    def _move(self, temporary: Path, path: Path, key: str, if_absent: bool, if_match: str | None) -> None:
        """Move a written file to its place. It is gone from where it was, whatever happens."""
        try:
            while True:
                self._make_folder(path.parent)
                try:
                    if if_absent:
                        self._link(temporary, path, key)
                    else:
                        self._replace(temporary, path, key, if_match)
                    break
                except FileNotFoundError:  # a deleter removed the empty folder again
                    if not temporary.exists():
                        raise
            with contextlib.suppress(FileNotFoundError):  # deleted already, and its folder with it
                self._sync_folder(path.parent)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()

    def _link(self, temporary: Path, path: Path, key: str) -> None:
        """Give the file its name unless the name is taken. Raises PreconditionFailed, NotSupported."""
        try:
            os.link(temporary, path)  # fails where the name exists, on every POSIX file system; rename would replace it
        except FileExistsError:
            if temporary.stat().st_nlink > 1:  # NFS: our own link was made, and the request sent again
                return
            raise PreconditionFailed(f"{self.url}: {key} exists") from None
        except OSError as error:
            self._not_supported(error, "hard links")
            if path.exists():
                raise PreconditionFailed(f"{self.url}: {key} exists") from None
            temporary.replace(path)

    def _replace(self, temporary: Path, path: Path, key: str, if_match: str | None) -> None:
        with self._locked(key):
            if if_match is not None and _etag_of(path) != if_match:
                raise PreconditionFailed(f"{self.url}: {key} has changed")
            temporary.replace(path)

    def _drop_empty(self, folder: Path) -> None:
        """Remove folders that became empty: folders exist only because of the keys in them."""
        while folder != self.root:
            try:
                folder.rmdir()
            except OSError:  # not empty, or another process removed it
                return
            folder = folder.parent

    def _walk(self, folder: Path, base: str, prefix: str) -> Iterator[Stat]:
        try:
            entries = _not_stale(lambda: list(os.scandir(folder)))
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
                    status = _not_stale(names[name].stat)
                except FileNotFoundError:  # deleted since the folder was read
                    continue
                yield Stat(key, status.st_size, _etag(status), status.st_mtime)

    def _write_temporary(self, pieces: Sequence[Data]) -> tuple[Path, str]:
        """The path and the etag of a new, synced file that holds ``pieces``."""
        folder = self.root / _TEMPORARY
        self._make_folder(folder)
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
            self._remove_abandoned(folder, tick / 1e9)
            return path, _etag(os.fstat(descriptor))
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def _remove_abandoned(self, folder: Path, now_seconds: float) -> None:
        """Remove temporary files of writers that were killed, once per store that is opened.

        Args:
            now_seconds: Unix time by the file system's clock.
        """
        if self._is_tidy:
            return
        self._is_tidy = True
        for path in folder.iterdir():
            with contextlib.suppress(OSError):  # its writer has moved it, or it is another user's
                if now_seconds - path.stat().st_mtime > ABANDONED_SECONDS:
                    path.unlink()

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and its parents, each synced into its parent, while others may remove empty ones.

        Raises:
            StoreUnreachable: a file is where the folder has to be.
        """
        while not folder.is_dir():
            try:
                folder.mkdir()
            except FileNotFoundError:
                self._make_folder(folder.parent)
            except FileExistsError:
                if not folder.is_dir() and os.path.lexists(folder):
                    raise StoreUnreachable(f"{self.url}: {folder} is in the way: it is no folder") from None
            else:
                with contextlib.suppress(FileNotFoundError):  # removed already, and its parent with it
                    self._sync_folder(folder.parent)

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Hold the lock of ``key`` against other threads, processes and machines. Raises NotSupported."""
        import fcntl  # only where a store is written: readers also run where there is none

        number = hashlib.sha256(key.encode()).digest()[0] % len(_thread_locks)
        folder = self.root / _LOCKS
        self._make_folder(folder)
        with _thread_locks[number]:
            descriptor = os.open(folder / f"{number:02d}", os.O_RDWR | os.O_CREAT, 0o666)
            try:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                except OSError as error:
                    self._not_supported(error, "flock")
                yield
            finally:
                os.close(descriptor)

    def _sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            self._not_supported(error, "fsync of folders")
        finally:
            os.close(descriptor)

    def _not_supported(self, error: OSError, what: str) -> None:
        """Return if ``error`` says that the file system lacks ``what`` and a single writer can do without it.

        Raises:
            NotSupported: several writers need it. OSError: ``error`` says something else.
        """
        if error.errno not in _MISSING:
            raise error
        if not self.single_writer:
            raise NotSupported(f"{self.url}: the file system has no {what} ({error.strerror})") from None

    @contextlib.contextmanager
    def _named(self, what: str) -> Iterator[None]:
        """Turn an OSError into a StorageError that says what failed."""
        try:
            yield
        except OSError as error:
            raise self._failed(error, what) from None

    def _failed(self, error: OSError, what: str) -> StorageError:
        reason = error.strerror or type(error).__name__
        if isinstance(error, PermissionError):
            return AccessDenied(f"{self.url}: may not {what} ({reason}); check the directory's owner and mode")
        return StoreUnreachable(f"{self.url}: cannot {what} ({reason}); check the path, its disk and its mount")


def _not_stale(call: Callable[[], T]) -> T:
    """Result of ``call``, which is repeated while NFS says that a file was replaced on the server (ESTALE)."""
    for _ in range(STALE_ATTEMPTS):
        try:
            return call()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    return call()


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


def _etag(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def _etag_of(path: Path) -> str | None:
    try:
        return _etag(_not_stale(path.stat))
    except FileNotFoundError:
        return None


def _is_file(status: os.stat_result) -> bool:
    return (status.st_mode & 0o170000) == 0o100000
