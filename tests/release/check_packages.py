"""`make check-packages`: the packages work in empty environments, without a clone and without a compiler.

    python -m tests.release.check_packages FOLDER

FOLDER has the wheels. Other packages come from the index of pip, torch from that of requirements/torch.lock. Each step
prints a line with its seconds; the exit status is 1 if one fails.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.page_blocks import blocks
from tests.support.paths import ROOT
from tests.support.web_server import serve_folder

PUBLISHED = "https://example.org/zoos/digits-example"  # in docs/install.md
READ = "import zooforge; assert len(zooforge.example().weights()) == 80; print(zooforge.__file__)"
GROWN = """
import zooforge
zoo = zooforge.open_zoo("z/zoos/mnist5k-cnn-s")
assert (zoo.manifest.num_models, zoo.epochs) == (16, [0, 1, 2]), zoo
from zooforge.storage.stores.open import open_store
from zooforge.storage.runs.run_files import read_pin
print(zoo, read_pin(open_store("z"), zoo.manifest.run)["engine"]["engine"])
"""


def snippet(address: str) -> str:
    """The first Python block of docs/install.md, which reads and plots a published zoo, with another address."""
    first = next(block.code for block in blocks(Path("docs/install.md")) if block.language == "python")
    assert PUBLISHED in first
    return first.replace(PUBLISHED, address)


class Environment:
    """An empty virtual environment, and a folder to work in. Only the environment's commands are in the path."""

    def __init__(self, folder: Path, python: str, wheels: Path) -> None:
        self._folder, self._wheels = folder, wheels
        self._bin = folder / "venv" / "bin"
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        subprocess.run([python, "-m", "venv", str(folder / "venv")], check=True)

    def install(self, *words: str) -> None:
        pip = [str(self._bin / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        self._run([*pip, "--find-links", str(self._wheels), *words], dict(os.environ))

    def run(self, *words: str) -> str:
        """Standard output of a command of the environment."""
        variables = {"PATH": str(self._bin), "HOME": str(self.work), "MPLBACKEND": "agg"}
        return self._run([str(self._bin / words[0]), *words[1:]], variables)

    def _run(self, command: list[str], environment: dict[str, str]) -> str:
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(command, cwd=self.work, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"FAIL {' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)


def check_reader(folder: Path, python: str, wheels: Path) -> None:
    environment = Environment(folder, python, wheels)
    name = Path(python).name
    with timed(f"{name}: zooforge and matplotlib installed, a zoo read over HTTP and drawn"):
        environment.install("zooforge", "matplotlib")
        with serve_folder(ROOT / "storage" / "example") as address:
            environment.run("python", "-c", snippet(f"{address}/zoos/digits-example"))
        assert (environment.work / "accuracy.png").stat().st_size > 10_000
    print(environment.run("python", "-c", READ).strip())


def check_grower(folder: Path, python: str, wheels: Path) -> None:
    environment = Environment(folder, python, wheels)
    with timed(f"{Path(python).name}: zooforge[grow] installed"):
        # torch apart: pip asks an additional index for every package, with many retries where it is out of reach.
        environment.install("--retries", "1", "--timeout", "15", "-r", str(ROOT / "requirements" / "torch.lock"))
        environment.install("zooforge[grow]")
    with timed("zoo run mnist5k-cnn-s --models 0:16 --epochs 2 --store ./z"):
        words = "run mnist5k-cnn-s --models 0:16 --epochs 2 --store ./z --no-metrics --quiet"
        print(environment.run("zoo", *words.split()).strip())
    print(environment.run("python", "-c", GROWN).strip())


def main(arguments: list[str]) -> int:
    wheels = Path(arguments[0]).resolve()
    pythons = arguments[1:] or [sys.executable]
    with tempfile.TemporaryDirectory(prefix="zooforge-packages-") as folder:
        for number, python in enumerate(pythons):
            check_reader(Path(folder) / f"reader{number}", python, wheels)
        check_grower(Path(folder) / "grower", pythons[0], wheels)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
