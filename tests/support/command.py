"""Runs the command `zoo` in a process of its own, as a person starts it, and looks at what it leaves in a store."""

import functools
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore

ZOO = Path(sys.executable).parent / "zoo"
POLL_SECONDS = 0.01
DEADLINE_SECONDS = 240.0


@dataclass(frozen=True)
class Ended:
    """The end of a command."""

    status: int
    out: str
    err: str
    seconds: float


class Running:
    """A command that was started in a session of its own. Leaving the block kills whatever is left of it."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], secrets: Sequence[str]) -> None:
        self._folder = TemporaryDirectory(prefix="zoo-command-")
        self._secrets = secrets
        self._started = time.monotonic()
        self._tree: set[int] = set()
        with self._file("out").open("wb") as out, self._file("err").open("wb") as err:
            self.process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def err(self) -> str:
        return self._file("err").read_text()

    def wait_until(self, true: Callable[[], bool], what: str, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until ``true()``. Fails if the command ends first or the time is over."""
        deadline = time.monotonic() + deadline_seconds
        while not true():
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode} before {what}: {self.err}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not {what} within {deadline_seconds:g} s: {self.err}")
            time.sleep(POLL_SECONDS)

    def wait(self, deadline_seconds: float = DEADLINE_SECONDS) -> Ended:
        """Wait for the end. Fails if it does not come in time or the output shows a secret."""
        status = self.process.wait(deadline_seconds)
        seconds = time.monotonic() - self._started
        ended = Ended(status, self._file("out").read_text(), self.err, seconds)
        for secret in self._secrets:
            assert secret not in ended.out + ended.err, "a secret was shown"
        return ended

    def kill(self) -> None:
        """Send SIGKILL to the command alone; its Ray has to notice by itself."""
        self._tree |= descendants(self.process.pid)
        self.process.kill()
        self.process.wait(DEADLINE_SECONDS)

    def interrupt(self) -> None:
        """Send SIGINT to the whole foreground process group, as a terminal does at Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def terminate(self) -> None:
        """Send SIGTERM to the process, as a supervisor does."""
        self.process.terminate()

    def children(self) -> dict[int, str]:
        """Command lines of all processes under the command, by number."""
        tree = descendants(self.process.pid)
        return {pid: line for pid, line in command_lines().items() if pid in tree}

    def survivors(self) -> dict[int, str]:
        """The processes that were under the command when it was killed and are still alive."""
        return {pid: line for pid, line in command_lines().items() if pid in self._tree}

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        for pid in self.survivors():
            _kill(pid)
        self._folder.cleanup()

    def _file(self, name: str) -> Path:
        return Path(self._folder.name) / name


@dataclass
class Command:
    """`zoo` in an environment of its own, started with ``before`` as prefix. No output may show ``secrets``."""

    environment: dict[str, str]
    secrets: list[str] = field(default_factory=list)
    before: tuple[str, ...] = ()

    def __call__(self, *arguments: str | Path, deadline_seconds: float = DEADLINE_SECONDS, **environment: str) -> Ended:
        with self.start(*arguments, **environment) as running:
            return running.wait(deadline_seconds)

    def start(self, *arguments: str | Path, **environment: str) -> Running:
        return Running([*self.before, str(ZOO), *map(str, arguments)], self.environment | environment, self.secrets)

    def with_environment(self, **environment: str) -> "Command":
        return replace(self, environment=self.environment | environment, secrets=list(self.secrets))

    def after(self, *before: str) -> "Command":
        return replace(self, before=before)


def done(ended: Ended) -> Ended:
    """Return ``ended`` after checking that it is a success without a traceback."""
    assert ended.status == 0, f"exit status {ended.status}: {ended.err}"
    assert "Traceback" not in ended.err
    return ended


def refused(ended: Ended, *said: str) -> str:
    """The one line that bad input gives. It must contain every text of ``said``."""
    assert "Traceback" not in ended.err, ended.err
    assert ended.status == 2, f"exit status {ended.status}: {ended.out}{ended.err}"
    assert ended.out == ""
    lines = ended.err.splitlines()
    assert len(lines) == 1, ended.err
    for text in said:
        assert text in lines[0], lines[0]
    return lines[0]


def content(store: str | Path) -> dict[str, str]:
    """Every object of a store and the SHA-256 of its bytes; of a directory every file and folder, hidden ones too."""
    if "://" in str(store):
        opened = open_store(str(store))
        return {stat.key: hashlib.sha256(opened.get(stat.key)[0]).hexdigest() for stat in opened.list("")}
    root = Path(store)
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in root.rglob("*")
    }


@functools.cache
def _opened(store: str) -> ObjectStore:
    """The opened store, kept because opening a store takes longer than a small run."""
    return open_store(store)


def num_records(store: str | Path, run: str = "") -> int:
    """Parts that are committed in a store, of all runs or of the one whose id begins with ``run``."""
    if "://" in str(store):
        keys = [stat.key for stat in _opened(str(store)).list(f"runs/{run}")]
    else:
        keys = [str(path.relative_to(store)) for path in Path(store).glob(f"runs/{run}*/parts/*/*.json")]
    return sum("/parts/" in key for key in keys)


def manifest(store: str | Path, zoo: str) -> bytes:
    """The manifest of the current version of ``zoo``."""
    opened = open_store(str(store))
    newest = max(stat.key for stat in opened.list(f"zoos/{zoo}/versions/") if stat.key.endswith("/manifest.json"))
    return opened.get(newest)[0]


def command_lines() -> dict[int, str]:
    """Command lines of the processes of this machine that live; zombies do not."""
    result = subprocess.run(["ps", "-ww", "-eo", "pid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    split = (line.split(None, 2) for line in result.splitlines())
    return {int(pid): line[0] if line else "" for pid, stat, *line in split if not stat.startswith("Z")}


def descendants(pid: int) -> set[int]:
    """Processes that ``pid`` started, and that those started."""
    result = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in result.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    tree: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            tree.add(child)
            waiting.append(child)
    return tree


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
