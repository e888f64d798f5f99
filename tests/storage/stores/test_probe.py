"""If a store lacks atomic conditional writes, the message names what is missing and what to do."""

import os
from pathlib import Path
from typing import Any

import pytest

from zooforge.storage.errors import NotSupported, StoreRefused, StoreUnreachable
from zooforge.storage.stores.local import LocalStore
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.probe import probe, require
from zooforge.storage.stores.protocol import Data


class Without(MemoryStore):
    """A server that answers conditional puts with an error."""

    def __init__(self, error: Exception) -> None:
        super().__init__("memory://without")
        self.error = error

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        if if_absent or if_match is not None:
            raise self.error
        return super().put(key, data)


def test_a_server_that_refuses_conditional_writes_has_none_and_says_so() -> None:
    capabilities = probe(Without(NotSupported("memory://without: the server answers 501")))
    assert capabilities.to_json() == {
        "atomic_create": False,
        "if_match": False,
        "ranged_reads": True,
        "wrong_checksum_refused": None,
    }
    with pytest.raises(StoreRefused, match=r"are not atomic \(the server answers 501\).*--single-writer"):
        require(capabilities, "memory://without")
    require(capabilities, "memory://without", single_writer=True)
    with pytest.raises(StoreRefused, match=r"nothing is published here.*zoo store pull"):
        require(capabilities, "memory://without", single_writer=True, publishing=True)


def test_a_server_that_does_not_answer_is_not_one_without_conditional_writes() -> None:
    with pytest.raises(StoreUnreachable):
        probe(Without(StoreUnreachable("no answer")))


def test_a_stand_in_for_a_single_writer_does_not_pass_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    store = LocalStore(tmp_path / "store", single_writer=True)
    store.put("a", b"1", if_absent=True)
    capabilities = probe(store)
    assert not capabilities.atomic_create and capabilities.if_match and store.single_writer
    with pytest.raises(StoreRefused, match=r"conditional creation .* \(the file system has no hard links"):
        require(capabilities, store.url)
    assert [stat.key for stat in store.list("")] == ["a"]
