"""The readers' wheel, installed with only its declared dependencies, reads every golden zoo."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# Runs where only the wheel is, and lets nothing be imported but it, what its metadata ask for, and what these need.
READER = """
import importlib.metadata, json, re, sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

target, golden = sys.argv[1:3]
asked = ["zooforge"]
for name in asked:
    paths = [target] if name == "zooforge" else sys.path
    (found,) = list(importlib.metadata.distributions(name=name, path=paths))[:1]
    for line in found.requires or ():
        other = re.match(r"[A-Za-z0-9_.-]+", line)[0]
        if "extra ==" not in line and other not in asked:
            asked.append(other)
allowed = {"dateutil" if name == "python-dateutil" else name.replace("-", "_").lower() for name in asked}

class OnlyThese:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        known = top in allowed or top in sys.stdlib_module_names or top.startswith("_")
        return PathFinder.find_spec(name, path, target) if known else None

sys.meta_path[:] = [BuiltinImporter, FrozenImporter, OnlyThese()]
sys.path.insert(0, target)
import zooforge

found = {}
for version in ("v1", "v2-compressed"):
    zoo = zooforge.open_zoo(f"{golden}/{version}/zoos/golden-vd")
    states = zoo.weights(masked=False)
    found[version] = [len(states), zoo.labels().num_rows, float(states.values[0, 0])]
sys.argv = ["zoo", "store", "verify", "golden-vd", "--store", f"{golden}/v1"]
found["verify"] = zooforge.main()
found["file"] = zooforge.__file__
found["example"] = [zooforge.example(twins=twins).weights().values.shape[0] for twins in (False, True)]
found["heavy"] = sorted({"torch", "ray", "pydantic", "storage", "zoo_jobs"} & set(sys.modules))
print(json.dumps(found), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = (folder / "dist").glob("zooforge-*.whl")
    install = [sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-index", "--no-deps", "--no-cache", "-q"]
    subprocess.run(
        [*install, "--target", str(folder / "site"), str(wheel)], check=True, capture_output=True, timeout=120
    )
    return folder / "site"


def test_the_readers_wheel_reads_without_torch_ray_or_a_clone(installed: Path, tmp_path: Path) -> None:
    run = [sys.executable, "-I", "-c", READER, str(installed), str(ROOT / "tests/golden/storage")]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    output = json.loads(done.stderr.splitlines()[-1])
    assert output["v1"][:2] == [18, 24] and output["v2-compressed"][:2] == [15, 30]
    assert output["example"] == [80, 16]
    assert output["verify"] == 0 and "all good" in done.stdout
    assert output["file"].startswith(str(installed)) and output["heavy"] == []


def test_the_wheel_brings_one_name_and_one_command(installed: Path) -> None:
    names = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert names - {"bin", ".lock"} == {"zooforge"}
    assert (installed / "bin" / "zoo").is_file() and (installed / "zooforge" / "py.typed").is_file()


def in_wheel(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_wheel_says_where_training_comes_from(installed: Path, tmp_path: Path) -> None:
    for verb in ("train", "list", "cluster"):
        done = in_wheel(installed, tmp_path, "-m", "zooforge", verb, "mnist")
        assert (done.returncode, done.stdout) == (2, "")
        assert "only reads zoos" in done.stderr and "clone of zooforge" in done.stderr
    listed = in_wheel(
        installed, tmp_path, "-m", "zooforge", "store", "ls", "--store", str(ROOT / "tests/golden/storage/v1")
    )
    assert listed.returncode == 0 and "golden-vd" in listed.stdout


def test_the_wheel_offers_no_extra_that_needs_a_clone(installed: Path) -> None:
    (actual,) = list(importlib.metadata.distributions(name="zooforge", path=[str(installed)]))
    assert not {"jobs", "demo", "native", "dev"} & set(actual.metadata.get_all("Provides-Extra") or ())


def test_a_folder_called_like_a_room_is_no_obstacle(installed: Path, tmp_path: Path) -> None:
    """People keep their data in a folder called storage."""
    for room in ("storage", "cluster"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("raise RuntimeError('somebody else's module')\n")
    script = tmp_path / "script.py"
    zoo = ROOT / "tests/golden/storage/v1/zoos/golden-vd"
    script.write_text(f"import zooforge\nprint(len(zooforge.open_zoo({str(zoo)!r}).weights(epochs=0)))\n")
    for rooms in (installed, ROOT):
        done = in_wheel(rooms, tmp_path, str(script))
        assert done.returncode == 0 and int(done.stdout) > 0, done.stderr


def test_a_clone_starts_as_a_module(tmp_path: Path) -> None:
    done = in_wheel(ROOT, tmp_path, "-m", "zooforge", "list", "--json")
    assert done.returncode == 0 and "mnist5k-cnn-s" in {zoo["name"] for zoo in json.loads(done.stdout)}
