"""The output of a scheduler's job: copied to the log of its pod, and bounded where it goes to a file."""

import contextlib
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

POD_STDOUT = Path("/proc/1/fd/1")
MOST_LINE = 600  # characters of a last line: an error with an address and its remedy
MOST_BYTES = 64 * 1024 * 1024  # largest size of the job's file; a second file of this size may hold older output


class CopyingStream:
    """A text stream that writes to several streams and keeps the last line that is not empty.

    Ray gives a job one file for its output and never rotates it. Where the first stream is a file, it is copied to
    ``FILE.1`` and emptied when it has more than ``most_bytes``.
    """

    def __init__(self, *streams: TextIO, most_bytes: int = MOST_BYTES) -> None:
        self._streams = streams
        self._most_bytes = most_bytes
        self.last_line = ""

    def write(self, text: str) -> int:
        for stream in self._streams:
            with contextlib.suppress(OSError):
                stream.write(text)
                stream.flush()
        if text.endswith("\n"):
            with contextlib.suppress(OSError, ValueError):  # a stream without a file
                rotate(self._streams[0].fileno(), self._most_bytes)
        lines = [line for line in text.splitlines() if line.strip()]
        if lines:
            self.last_line = " ".join(lines[-1].split())[:MOST_LINE]
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._streams[0], name)


def rotate(descriptor: int, most_bytes: int) -> bool:
    """Copy the file of ``descriptor`` to ``FILE.1`` and empty it if it is larger. Returns whether it did.

    The file stays open for all who write to it at its end, as Ray opens it; so a rename would not do.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size <= most_bytes:
        return False
    path = Path(f"/proc/self/fd/{descriptor}").readlink()
    if path.exists():
        with contextlib.suppress(OSError):  # without room for a copy the file is emptied nevertheless
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    os.ftruncate(descriptor, 0)
    return True


@contextlib.contextmanager
def output_copied(environment: Mapping[str, str]) -> Iterator[CopyingStream]:
    """Copy stdout and stderr to the pod's own log, which `kubectl logs` shows. Gives the stream that copies stderr."""
    with contextlib.ExitStack() as stack:
        pod: list[TextIO] = []
        if environment.get("ZOO_JOB") and os.getpid() != 1:
            with contextlib.suppress(OSError):
                pod.append(stack.enter_context(POD_STDOUT.open("w")))
        stderr = CopyingStream(sys.stderr, *pod)
        stack.enter_context(contextlib.redirect_stdout(CopyingStream(sys.stdout, *pod)))
        stack.enter_context(contextlib.redirect_stderr(stderr))
        yield stderr


def say(message: str, status: int) -> int:
    """Write one line to stderr. Returns ``status``."""
    sys.stderr.write(f"zoo: {message}\n")
    return status
