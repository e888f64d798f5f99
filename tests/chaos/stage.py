"""The folder, the S3 server and the command of a disturbed run."""

import os
import signal
import time
from pathlib import Path

from tests.support.command import Command, command_lines
from zooforge.storage.stores import seaweedfs


class Stage:
    """A fresh folder with an S3 server that can be killed, and `zoo` with the server's credentials."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = seaweedfs.up(folder / "s3")
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "ZOO_", "ZOOFORGE_", "RAY_", "KUBERNETES_", "COLUMNS"))
        }
        environment |= self.server.environment() | {"OMP_NUM_THREADS": "1", "AWS_EC2_METADATA_DISABLED": "true"}
        os.environ |= self.server.environment()  # for code in this process that reads the store
        self.zoo = Command(environment, [environment["AWS_SECRET_ACCESS_KEY"]])

    def store(self, name: str) -> str:
        """URL of an empty store on the server."""
        return f"{self.server.url}/{name}"

    def kill_server(self, seconds: float) -> None:
        """Kill the S3 server with SIGKILL and start it again on the same ports after ``seconds``."""
        os.kill(self.server.pid, signal.SIGKILL)
        time.sleep(seconds)
        self.server = seaweedfs.up(self.folder / "s3")

    def close(self) -> None:
        seaweedfs.down(self.folder / "s3")


def workers(tree: dict[int, str]) -> list[int]:
    """Process ids of the slots among a command's children."""
    alive = command_lines()
    return [pid for pid, line in tree.items() if line.startswith("ray::RayWorker") and pid in alive]
