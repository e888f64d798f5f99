"""A second S3 server that speaks TLS, and stores of every kind by name."""

import datetime
import ipaddress
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.synthetic import copy_zoo
from zooforge.storage.errors import StorageUsageError
from zooforge.storage.stores import seaweedfs
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore

_numbers = itertools.count()


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    x509 = pytest.importorskip("cryptography.x509", reason="cryptography is not installed")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    start = datetime.datetime(2020, 1, 1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(datetime.datetime(2100, 1, 1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@pytest.fixture(scope="session")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[seaweedfs.Server, Path]]:
    """SeaweedFS over TLS, and the certificate that its clients must trust."""
    folder = tmp_path_factory.mktemp("s3-tls")
    certificate = write_certificate(folder)
    try:
        server = seaweedfs.up(folder, certificate=certificate)
    except StorageUsageError as error:
        pytest.skip(str(error))
    yield server, certificate[0]
    seaweedfs.down(folder)


@pytest.fixture
def tls_store_url(tls_server: tuple[seaweedfs.Server, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    server, certificate = tls_server
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    return f"{server.url}/test-{next(_numbers)}"


@pytest.fixture(params=["memory", "local", "s3", "tls"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """One empty store of each kind."""
    match request.param:
        case "memory":
            return open_store(f"memory://{tmp_path}")
        case "local":
            return open_store(str(tmp_path / "store"))
        case "s3":
            return open_store(request.getfixturevalue("s3_store_url"))
        case _:
            return open_store(request.getfixturevalue("tls_store_url"))


@pytest.fixture
def local(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def memory(tmp_path: Path) -> ObjectStore:
    return open_store(f"memory://{tmp_path}/memory")


@pytest.fixture(params=["local", "memory"])
def copied(request: pytest.FixtureRequest, published: ObjectStore) -> ObjectStore:
    """A store of either kind with a copy of the zoo that the test's module publishes."""
    actual: ObjectStore = request.getfixturevalue(request.param)
    copy_zoo(published, "tiny-zoo", actual)
    return actual


@pytest.fixture(name="tree")
def raw_tree(tmp_path: Path) -> Path:
    """An empty folder, named as the reference names the one with a zoo's models."""
    folder = tmp_path / "MNIST" / "tune_zoo_mnist_hyperparameter_10_fixed_seeds"
    folder.mkdir(parents=True)
    return folder
