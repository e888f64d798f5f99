"""Fixtures that every room may use. A real S3 server is started once, and only if a test asks for it."""

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import embedded
from storage.errors import StorageUsageError

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    """A command line that ran in this process has set up the rooms' loggers; the next test finds them untouched."""
    rooms = [logging.getLogger(room) for room in ("zoo_jobs", "storage", "cluster")]
    before = [(room.handlers, room.level, room.propagate) for room in rooms]
    yield
    for room, (handlers, level, propagate) in zip(rooms, before, strict=True):
        room.handlers, room.propagate = handlers, propagate
        room.setLevel(level)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.Server]:
    """SeaweedFS on loopback, on free ports, with its own data and credentials; stopped at the end."""
    folder = tmp_path_factory.mktemp("s3")
    try:
        server = embedded.up(folder)
    except StorageUsageError as error:
        pytest.skip(str(error))
    yield server
    embedded.down(folder)


@pytest.fixture
def s3_environment(s3_server: embedded.Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> embedded.Server:
    """The environment of a client of ``s3_server``, without this machine's AWS files."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return s3_server


@pytest.fixture
def s3_store_url(s3_environment: embedded.Server) -> str:
    """``s3://bucket/prefix``, fresh for this test; the environment has endpoint and credentials."""
    return f"{s3_environment.url}/test-{next(_numbers)}"
