"""The cache of a reader: a folder that cannot be written costs nothing but the cache."""

import logging
from pathlib import Path

import pytest

from zooforge.storage.stores.cache import ContentCache


def test_content_comes_back_and_a_damaged_file_counts_as_missing(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path / "cache")
    cache.put("abcd", b"content")
    assert cache.get("abcd") == b"content"
    (tmp_path / "cache/ab/abcd").write_bytes(b"x" * 50)
    assert cache.get("abcd") is None


def test_a_folder_that_cannot_be_written_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        cache = ContentCache(tmp_path / "file" / "cache")
        for name in ("abcd", "bcde"):
            cache.put(name, b"content")
            assert cache.get(name) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "ZOOFORGE_CACHE" in caplog.text


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ContentCache(tmp_path)

    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    cache.put("abcd", b"content")
    assert cache.get("abcd") is None and [path for path in tmp_path.rglob("*") if path.is_file()] == []
