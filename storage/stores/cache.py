"""What was read from a remote store, kept in a folder by content, the longest unused out first."""

import os
import secrets
from pathlib import Path

from ..canonical import sha256_hex

DEFAULT_BYTES = 10 * 2**30
_SUM = 32  # a SHA-256 before the content: a damaged file is read again, not believed


class ContentCache:
    """Safe between processes: files appear whole, and one that vanishes is only read again."""

    def __init__(self, folder: Path, limit_bytes: int = DEFAULT_BYTES) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._size = sum(size for _, size, _ in self._files())

    def get(self, name: str) -> bytes | None:
        """Content under ``name``; None if it is not there or not what was put."""
        path = self._path(name)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        content = data[_SUM:]
        return content if bytes.fromhex(sha256_hex(content)) == data[:_SUM] else None

    def put(self, name: str, content: bytes) -> None:
        """Keep ``content``; what does not fit within the limit is not kept."""
        size = len(content) + _SUM
        if size > self.limit_bytes:
            return
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}")
        temporary.write_bytes(bytes.fromhex(sha256_hex(content)) + content)
        temporary.replace(path)
        self._size += size
        if self._size > self.limit_bytes:
            self._shrink()

    def _shrink(self) -> None:
        files = sorted(self._files())
        self._size = sum(size for _, size, _ in files)
        for _, size, path in files:
            if self._size <= self.limit_bytes * 9 // 10:
                return
            path.unlink(missing_ok=True)
            self._size -= size

    def _files(self) -> list[tuple[float, int, Path]]:
        found = []
        for path in self.folder.glob("??/*"):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            found.append((stat.st_mtime, stat.st_size, path))
        return found

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name


def open_cache(folder: str, limit_bytes: int | None) -> ContentCache:
    return ContentCache(Path(folder).expanduser(), DEFAULT_BYTES if limit_bytes is None else limit_bytes)
