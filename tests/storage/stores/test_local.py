"""A directory as a store: an OS error of one step is never taken for the result of another."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zooforge.storage.errors import NotSupported, PreconditionFailed, StoreUnreachable
from zooforge.storage.stores.local import ABANDONED_SECONDS, LocalStore

MISSING = errno.EOPNOTSUPP


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def failing(call: Callable[..., Any], number: int, times: int, matches: Callable[..., bool]) -> Callable[..., Any]:
    """A wrapper of ``call`` that raises an OSError with this number the first ``times`` times its arguments match."""
    left = [times]

    def wrapped(*arguments: Any, **options: Any) -> Any:
        if left[0] and matches(*arguments):
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        return call(*arguments, **options)

    return wrapped


@pytest.mark.parametrize("if_absent", [True, False])
def test_a_folder_removed_right_after_mkdir_is_not_reported_as_an_existing_object(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, if_absent: bool
) -> None:
    mkdir, lost = Path.mkdir, [True]

    def racing(path: Path, *arguments: Any, **options: Any) -> None:
        if path.name == "a" and lost[0]:  # another writer makes the folder, and a deleter removes it at once
            lost[0] = False
            raise FileExistsError(errno.EEXIST, "File exists")
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", racing)
    store.put("a/b", b"1", if_absent=if_absent)
    assert not lost[0] and store.get("a/b")[0] == b"1"


@pytest.mark.parametrize("if_absent", [True, False])
def test_a_file_in_place_of_a_folder_is_named_and_not_reported_as_an_existing_object(
    store: LocalStore, if_absent: bool
) -> None:
    store.put("a", b"1")
    with pytest.raises(StoreUnreachable, match="/a is in the way"):
        store.put("a/b", b"2", if_absent=if_absent)
    store.delete("a/b")
    assert store.stat("a/b") is None and store.get("a")[0] == b"1"


def test_a_link_whose_reply_was_lost_is_ours(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)  # NFS sends the request again

    monkeypatch.setattr(os, "link", twice)
    store.put("a", b"1", if_absent=True)
    with pytest.raises(PreconditionFailed):
        store.put("a", b"2", if_absent=True)
    assert store.get("a")[0] == b"1" and list((store.root / ".tmp").iterdir()) == []


def test_a_stale_file_handle_is_opened_again(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("folder/a", b"1")
    monkeypatch.setattr(Path, "open", failing(Path.open, errno.ESTALE, 2, lambda path, *_: path.name == "a"))
    assert store.get("folder/a")[0] == b"1"
    monkeypatch.setattr(Path, "stat", failing(Path.stat, errno.ESTALE, 2, lambda path, *_: path.name == "a"))
    assert store.stat("folder/a") is not None
    monkeypatch.setattr(os, "scandir", failing(os.scandir, errno.ESTALE, 2, lambda path: True))
    assert [stat.key for stat in store.list("")] == ["folder/a"]


def test_a_handle_that_stays_stale_is_an_error(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("a", b"1")
    monkeypatch.setattr(Path, "open", failing(Path.open, errno.ESTALE, 99, lambda path, *_: path.name == "a"))
    with pytest.raises(StoreUnreachable, match="cannot read a"):
        store.get("a")


def test_temporary_files_of_killed_writers_are_deleted_after_a_time(store: LocalStore) -> None:
    store.put("a", b"1")
    old, new = store.root / ".tmp" / "1-dead", store.root / ".tmp" / "2-alive"
    for path in (old, new):
        path.write_bytes(b"half")
    past = time.time() - ABANDONED_SECONDS - 60
    os.utime(old, (past, past))
    LocalStore(store.root).put("b", b"1")
    assert not old.exists() and new.exists()


@pytest.fixture(params=["hard links", "flock", "fsync of folders"])
def lacking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A file system that lacks one capability, as FUSE, exFAT and some NFS do."""
    import fcntl

    def always(*_: Any) -> bool:
        return True

    def is_folder(descriptor: int) -> bool:
        return Path(f"/proc/self/fd/{descriptor}").resolve().is_dir()

    match request.param:
        case "hard links":
            monkeypatch.setattr(os, "link", failing(os.link, errno.EPERM, 10**6, always))
        case "flock":
            monkeypatch.setattr(fcntl, "flock", failing(fcntl.flock, MISSING, 10**6, always))
        case _:
            monkeypatch.setattr(os, "fsync", failing(os.fsync, errno.EINVAL, 10**6, is_folder))
    yield request.param


def test_the_missing_capability_of_a_file_system_is_named(store: LocalStore, lacking: str) -> None:
    with pytest.raises(NotSupported, match=f"the file system has no {lacking}"):
        store.put("a", b"1", if_absent=True)
        store.put("a", b"1")


def test_a_single_writer_needs_none_of_these_capabilities(store: LocalStore, lacking: str) -> None:
    alone = LocalStore(store.root, single_writer=True)
    etag = alone.put("folder/a", b"1", if_absent=True)
    with pytest.raises(PreconditionFailed):
        alone.put("folder/a", b"2", if_absent=True)
    alone.put("folder/a", b"3", if_match=etag)
    with pytest.raises(PreconditionFailed):
        alone.put("folder/a", b"4", if_match=etag)
    assert alone.get("folder/a")[0] == b"3"
    alone.delete("folder/a")
    assert list(alone.list("")) == []
