"""A folder that keeps bytes that were read from a remote store. The least recently used ones are removed first."""

import contextlib
import logging
import os
import secrets
from pathlib import Path

from ..canonical import sha256_hex

logger = logging.getLogger(__name__)

DEFAULT_BYTES = 10 * 2**30
_SUM = 32  # bytes of the SHA-256 before the content: a damaged file counts as missing


class ContentCache:
    """Safe between processes: files appear whole, and one that is removed is only read from the store again.

    A folder that cannot be written (read-only, disk full) is reported once, and nothing is kept.
    """

    def __init__(self, folder: Path, limit_bytes: int = DEFAULT_BYTES) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._size = sum(size for _, size, _ in self._files())
        self._is_reported = False

    def get(self, name: str) -> bytes | None:
        """Content under ``name``; None if it is missing or damaged."""
        path = self._path(name)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        content = data[_SUM:]
        return content if bytes.fromhex(sha256_hex(content)) == data[:_SUM] else None

    def put(self, name: str, content: bytes) -> None:
        """Keep ``content``, unless it is larger than the limit."""
        size = len(content) + _SUM
        if size > self.limit_bytes:
            return
        path = self._path(name)
        temporary = path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(bytes.fromhex(sha256_hex(content)) + content)
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            self._report(error)
            return
        self._size += size
        if self._size > self.limit_bytes:
            self._shrink()

    def _report(self, error: OSError) -> None:
        if not self._is_reported:
            self._is_reported = True
            reason = error.strerror or type(error).__name__
            logger.warning("cache %s: nothing is kept (%s); ZOOFORGE_CACHE names another folder", self.folder, reason)

    def _shrink(self) -> None:
        files = sorted(self._files())
        self._size = sum(size for _, size, _ in files)
        for _, size, path in files:
            if self._size <= self.limit_bytes * 9 // 10:
                return
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            self._size -= size

    def _files(self) -> list[tuple[float, int, Path]]:
        files = []
        for path in self.folder.glob("??/*"):
            try:
                stat = path.stat()
            except OSError:
                continue
            files.append((stat.st_mtime, stat.st_size, path))
        return files

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name


def open_cache(folder: str, limit_bytes: int | None) -> ContentCache:
    return ContentCache(Path(folder).expanduser(), DEFAULT_BYTES if limit_bytes is None else limit_bytes)
