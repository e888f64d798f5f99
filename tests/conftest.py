"""Fixtures that every room may use. A real S3 server is started once, and only if a test asks for it."""

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from zooforge.storage.errors import StorageUsageError
from zooforge.storage.stores import seaweedfs

_numbers = itertools.count()

# A busy machine must not fail a test: no limit on the time of an example, or of drawing one.
settings.register_profile("zooforge", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("zooforge")

SLOWER = (
    "acceptance", "test_wheel.py", "test_slurm.py", "test_page.py", "test_report_command.py", "test_prometheus.py",
    "test_ray_start.py", "test_engines.py", "gpu", "storage/simulation", "test_concurrency.py", "test_whole_way.py",
    "test_rights.py", "test_hostile_store.py", "test_month.py", "test_split_rule.py", "test_stage.py",
    "test_imports.py", "test_python_page.py", "test_pages_run.py", "test_own_network.py", "test_own_code.py",
    "test_drawn_zoo.py", "commands/test_own_images.py", "commands/test_family.py", "commands/test_publish.py",
    "test_hub.py", "test_zenodo.py", "s3/test_errors.py", "s3/test_reads.py", "zoo_jobs/engines",
    "cluster/test_cli.py", "test_preflight_command.py", "test_status.py", "test_train_fraction.py",
    "zoo_jobs/metrics/test_exporter.py", "test_image_regression.py", "zoo_jobs/benchmark", "test_retrain.py",
    "test_grown_images.py", "fuzz/test_fuzz.py", "test_symmetries.py",
)  # fmt: skip
"""Tests that train, start processes or servers, or draw: `make test-quick` leaves them out."""


def is_slower(path: Path) -> bool:
    name = path.as_posix()
    return any(f"/tests/{part}" in name or name.endswith(f"/{part}") for part in SLOWER)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import the modules that ``-m 'not slower'`` leaves out: each process would take seconds for it."""
    return True if "not slower" in config.option.markexpr and is_slower(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        on_a_server = any(word in item.name for word in ("[s3", "[tls", "-s3", "-tls"))
        if on_a_server or is_slower(item.path):
            item.add_marker("slower")


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    """Restore the rooms' loggers after each test, because a command line that runs in this process configures them."""
    logger = logging.getLogger("zooforge")
    before = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, level, logger.propagate = before
    logger.setLevel(level)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[seaweedfs.Server]:
    """SeaweedFS on loopback, on free ports, with its own data and credentials; stopped at the end."""
    folder = tmp_path_factory.mktemp("s3")
    try:
        server = seaweedfs.up(folder)
    except StorageUsageError as error:
        pytest.skip(str(error))
    yield server
    seaweedfs.down(folder)


@pytest.fixture
def s3_environment(s3_server: seaweedfs.Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> seaweedfs.Server:
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
def s3_store_url(s3_environment: seaweedfs.Server) -> str:
    """``s3://bucket/prefix``, fresh for this test; the environment has endpoint and credentials."""
    return f"{s3_environment.url}/test-{next(_numbers)}"
