"""Fixtures of the acceptance tests. Ray starts slowly, so runs are shared where a test only reads."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.acceptance_specs import MODELS, write
from tests.support.command import Command, done
from zooforge.storage.stores import seaweedfs


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("acceptance")


@pytest.fixture(scope="session")
def zoo(folder: Path) -> Command:
    """`zoo` with a cache, a home and a state folder of its own, no AWS settings, and plain output."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "ZOO_", "ZOOFORGE_", "RAY_", "KUBERNETES_", "COLUMNS"))
    }
    home = folder / "home"
    home.mkdir()
    return Command(
        {
            **kept,
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "ZOO_CACHE": str(folder / "cache"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "OMP_NUM_THREADS": "1",
        }
    )


@pytest.fixture(scope="session")
def s3_zoo(zoo: Command, s3_server: seaweedfs.Server) -> Command:
    """`zoo` with the credentials of the S3 server, which no output may show."""
    environment = s3_server.environment()
    del environment["ZOO_STORE"]
    command = zoo.with_environment(**environment)
    command.secrets.append(environment["AWS_SECRET_ACCESS_KEY"])
    return command


@pytest.fixture(scope="session")
def spec(folder: Path) -> Path:
    return write(folder)


@pytest.fixture(scope="session")
def quiet(folder: Path, zoo: Command, spec: Path) -> Path:
    """A store with a zoo and its twins from one undisturbed `zoo run`."""
    store = folder / "quiet"
    done(zoo("run", spec, "--models", MODELS, "--store", store))
    return store


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
