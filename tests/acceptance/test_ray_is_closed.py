"""Ray opens ports beyond loopback even for `--ray local`. None of them accepts a request without the token."""

import http.client
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Command, Running, num_records

pytestmark = pytest.mark.ray

PROBE = """
import sys
from ray._raylet import GcsClient
print("obeyed", len(GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None, timeout=10)))
"""
CALL_SECONDS = 10.0
EVERYWHERE = ("*", "0.0.0.0", "::")


@pytest.fixture(scope="module")
def living(zoo: Command, spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A local run that is training."""
    store = tmp_path_factory.mktemp("living")
    arguments = ("train", spec, "--models", "0:4", "--epochs", "100000", "--store", store, "--slots", "1")
    with zoo.start(*arguments) as running:
        running.wait_until(lambda: num_records(store) >= 2, "2 records")
        yield running
        assert running.process.poll() is None, running.err


@pytest.fixture(scope="module")
def token(zoo: Command, living: Running) -> Path:
    return Path(zoo.environment["XDG_STATE_HOME"]) / "zooforge" / "ray-token"


def listening(processes: set[int]) -> set[tuple[str, int]]:
    """Addresses on which ``processes`` listen for TCP."""
    try:
        result = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("ss is not installed (iproute2)")
    addresses = set()
    for line in result.splitlines():
        if any(f"pid={pid}," in line for pid in processes):
            host, _, port = line.split()[3].rpartition(":")
            addresses.add((host.strip("[]"), int(port)))
    return addresses


def call_gcs(zoo: Command, living: Running, **environment: str) -> str:
    """The answer of the head service to a process that has only ``environment``."""
    (gcs,) = (pid for pid, line in living.children().items() if "gcs_server" in line.split(" ")[0])
    ((host, port),) = listening({gcs})
    host = "127.0.0.1" if host in EVERYWHERE else host
    clean = {name: value for name, value in zoo.environment.items() if not name.startswith(("XDG_", "HOME"))}
    result = subprocess.run(
        [sys.executable, "-c", PROBE, f"{host}:{port}"],
        env=clean | {"HOME": "/nonexistent"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return result.stdout + result.stderr


def test_calls_without_the_token_are_refused_by_the_head(zoo: Command, living: Running) -> None:
    for environment in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "guessed"}):
        answer = call_gcs(zoo, living, **environment)
        assert "obeyed" not in answer
        assert "InvalidAuthToken" in answer, answer


def test_a_call_with_the_token_is_accepted(zoo: Command, living: Running, token: Path) -> None:
    assert "obeyed" in call_gcs(zoo, living, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token))


def answers_without_the_token(living: Running) -> dict[int, int]:
    """Status of each HTTP port of the run that was asked to start a job without the token."""
    answers = {}
    for host, port in sorted(listening(set(living.children()))):
        connection = http.client.HTTPConnection("127.0.0.1" if host in EVERYWHERE else host, port, timeout=CALL_SECONDS)
        try:
            connection.request("POST", "/api/job_agent/jobs/", b'{"entrypoint": "id"}')
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            continue  # speaks gRPC, or is not up yet
        finally:
            connection.close()
        assert answer.status >= 400 or body.startswith(b"# HELP"), (port, answer.status, body[:200])
        answers[port] = answer.status
    return answers


def test_no_http_port_takes_a_job_without_the_token(living: Running) -> None:
    # One agent that refuses is enough: Ray's second one has no HTTP port while another Ray on the machine holds it.
    for _ in range(60):  # agents may start long after the run has begun
        if 401 in answers_without_the_token(living).values():
            return
        time.sleep(1)
    pytest.fail("no agent of Ray answered over HTTP")


def test_the_token_is_private_and_not_in_the_store(zoo: Command, living: Running, token: Path) -> None:
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    secret = token.read_text().strip()
    assert len(secret) >= 32
    assert not any(secret in line for line in living.children().values())
    assert secret not in living.err


def test_the_drivers_metrics_listen_on_loopback_only(living: Running) -> None:
    port = int(living.err.split("metrics at http://127.0.0.1:")[1].split("/")[0])
    assert {host for host, actual in listening({living.process.pid}) if actual == port} == {"127.0.0.1"}
