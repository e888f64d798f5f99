"""A zip file as a store for reading: members are not compressed, so that a range of one is a range of the file."""

import os
import struct
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from ..errors import FormatError, ObjectNotFound, StoreRefused, StoreUnreachable
from ..keys import checked_key
from .protocol import ByteRange, Data, Stat, Traffic

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, and the lengths of the fields before the data


class ZipStore:
    """Read-only protocol over a file as ``zoo store zip`` writes it. Safe between threads: reads have no position."""

    root = None
    clock_ahead_seconds = 0.0

    def __init__(self, path: Path) -> None:
        self.path_of_file = path.expanduser().absolute()
        self.url = self.path_of_file.as_uri()
        self.traffic = Traffic()
        try:
            with zipfile.ZipFile(self.path_of_file) as archive:
                # Not info.is_dir(): of a record without a name it raises IndexError.
                self._infos = {i.filename: i for i in archive.infolist() if i.filename and i.filename[-1] != "/"}
            self._file = os.open(self.path_of_file, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # O_BINARY: Windows
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error) as error:
            raise FormatError(f"{self.path_of_file}: no zip file, or a truncated one ({error})") from None
        except OSError as error:
            raise StoreUnreachable(f"{self.path_of_file}: cannot be read ({error.strerror})") from None
        self._lock = threading.Lock()
        self._modified_seconds = os.fstat(self._file).st_mtime

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def __reduce__(self) -> tuple[Any, ...]:
        return ZipStore, (self.path_of_file,)

    def get(self, key: str, byte_range: ByteRange | None = None) -> tuple[bytes, str]:
        info = self._infos.get(checked_key(key))
        if info is None:
            raise ObjectNotFound(f"{self.url}: no object {key}")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise FormatError(f"{self.path_of_file}: {key} is compressed or encrypted; extract the file, it then reads")
        start, stop = (0, info.file_size) if byte_range is None else byte_range
        start, stop = min(start, info.file_size), min(stop, info.file_size)
        try:
            header = self._piece(info.header_offset, _LOCAL_HEADER.size)
            if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
                raise FormatError(f"{self.path_of_file}: {key} does not lie where the zip says; the file is damaged")
            _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
            first = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
            data = self._read(first + start, max(0, stop - start))
        except OSError as error:
            raise StoreUnreachable(f"{self.path_of_file}: cannot be read ({error.strerror})") from None
        self.traffic.add(read=len(data))
        return data, f"{info.CRC:08x}"

    def _read(self, start: int, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self._piece(start + len(data), size - len(data))
            if not piece:
                raise FormatError(f"{self.path_of_file}: ends before its last record; the file is truncated")
            data += piece
        return bytes(data)

    def _piece(self, start: int, size: int) -> bytes:
        """Up to ``size`` bytes of the file."""
        if hasattr(os, "pread"):
            return os.pread(self._file, size, start)
        with self._lock:  # Windows
            os.lseek(self._file, start, os.SEEK_SET)
            return os.read(self._file, size)

    def stat(self, key: str) -> Stat | None:
        info = self._infos.get(checked_key(key))
        return None if info is None else self._stat(info)

    def list(self, prefix: str) -> Iterator[Stat]:
        return (self._stat(info) for name, info in self._infos.items() if name.startswith(prefix))

    def _stat(self, info: zipfile.ZipInfo) -> Stat:
        return Stat(info.filename, info.file_size, f"{info.CRC:08x}", self._modified_seconds)

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        self._refuse("write")

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        self._refuse("delete")

    def _refuse(self, verb: str) -> NoReturn:
        raise StoreRefused(f"{self.path_of_file}: a zip file is for reading; to {verb} objects use a folder or s3://")
