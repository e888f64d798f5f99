"""The wheel reads with nothing but what it asks for, trains with the extra `grow`, and is the same at every build."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# Lets nothing be imported but the wheel, what its metadata ask for, and what these need.
ONLY_THE_WHEEL = """
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
"""
VERB = (
    ONLY_THE_WHEEL
    + """
sys.argv = ["zoo", *sys.argv[3:]]
sys.exit(zooforge.main())
"""
)
READER = (
    ONLY_THE_WHEEL
    + """
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
)
SECONDS = 1800  # a busy machine must not fail a test
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def build(source: Path, folder: Path, kind: str, **environment: str) -> Path:
    """The one file that hatchling makes of the tree ``source``."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(
        command, cwd=source, env={**os.environ, **environment}, check=True, capture_output=True, timeout=SECONDS
    )
    (made,) = folder.glob("zooforge-*")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    folder = wheel.with_name("site")
    install = [sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-index", "--no-deps", "--no-cache", "-q"]
    subprocess.run([*install, "--target", str(folder), str(wheel)], check=True, capture_output=True, timeout=SECONDS)
    return folder


def test_the_readers_wheel_reads_without_torch_ray_or_a_clone(installed: Path, tmp_path: Path) -> None:
    run = [sys.executable, "-I", "-c", READER, str(installed), str(ROOT / "tests/golden/storage")]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS)
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
        timeout=SECONDS,
    )


def test_a_reader_is_told_which_extra_brings_a_verb(installed: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-c", VERB, str(installed), "", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS)

    for verb, extra in (("train", "grow"), ("list", "grow"), ("cluster", "cluster")):
        done = run(verb, "mnist")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert f"pip install 'zooforge[{extra}]'" in done.stderr
    assert "vectorize" in run("--help").stdout
    listed = run("store", "ls", "--store", str(ROOT / "tests/golden/storage/v1"))
    assert listed.returncode == 0 and "golden-vd" in listed.stdout
    missing = run("store", "verify", "golden", "--store", str(ROOT / "tests/golden/storage/v1"))
    assert missing.returncode == 2 and "did you mean golden-vd" in missing.stderr


def test_the_wheel_trains_where_its_extra_is_installed(installed: Path, tmp_path: Path) -> None:
    """The extra's packages are those of this environment; the CPU engine is the other wheel's."""
    words = (
        "run digits8-cnn-s --models 0:4 --epochs 1 --no-twins --slots 1 --ray none --no-metrics --store zoos --quiet"
    )
    done = in_wheel(installed, tmp_path, "-m", "zooforge", *words.split())
    assert done.returncode == 0, done.stderr
    assert "digits8-cnn-s version 1: 4 of" in done.stdout
    code = "from zooforge.zoo_jobs.engines.lanes.engine import LanesEngine; print(LanesEngine().refuses(None))"
    assert "pip install 'zooforge[grow]'" in in_wheel(installed, tmp_path, "-c", code).stdout


def test_the_wheel_holds_the_rooms_and_the_chart_and_nothing_to_compile(wheel: Path) -> None:
    names = {name.removeprefix("zooforge/") for name in zipfile.ZipFile(wheel).namelist()}
    assert {"storage/zoo.py", "zoo_jobs/cli.py", "cluster/cli.py", "helm/zooforge/Chart.yaml"} <= names
    assert {"zoo_jobs/catalogue/mnist5k-cnn-s.yaml", "zoo_jobs/report/page.css"} <= names
    endings = {Path(name).suffix for name in names}
    assert not {".so", ".cpp", ".h", ".inc", ".toml", ".lock"} & endings
    assert [name for name in names if ".locks" in name or "__pycache__" in name] == []


def test_extras_are_installable_and_groups_are_for_a_clone(installed: Path) -> None:
    (actual,) = list(importlib.metadata.distributions(name="zooforge", path=[str(installed)]))
    extras = set(actual.metadata.get_all("Provides-Extra") or ())
    assert extras == {"s3", "torch", "pandas", "hub", "train", "grow", "cluster"}


def test_one_version_stands_everywhere() -> None:
    version = PROJECT["version"]
    lanes = tomllib.loads((ROOT / "zoo_jobs/engines/lanes/pyproject.toml").read_text())["project"]
    assert lanes["version"] == version and f"zooforge-lanes=={version}" in PROJECT["optional-dependencies"]["grow"]
    (torch,) = (word for word in PROJECT["optional-dependencies"]["train"] if word.startswith("torch"))
    for name, line in {
        "docs/install.md": f"pip install {torch} --index-url",
        "zooforge.py": f'__version__ = "{version}"',
        "helm/zooforge/Chart.yaml": f"version: {version}",
        "CITATION.cff": f"version: {version}",
        "Dockerfile": f"ARG VERSION={version}",
    }.items():
        assert line in (ROOT / name).read_text(), name


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_equal_sources_give_equal_bytes(kind: str, tmp_path: Path) -> None:
    """Wherever the sources are, however old their files, and whatever the time zone and the umask are."""
    trees = [tmp_path / name for name in ("one", "another")]
    made = []
    for number, tree in enumerate(trees):
        for name in ("storage", "zoo_jobs", "cluster", "helm"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        for name in ("pyproject.toml", "hatch_build.py", "zooforge.py", "README.md", "LICENSE", ".gitignore"):
            shutil.copyfile(ROOT / name, tree / name)
        for path in tree.rglob("*.py"):
            os.utime(path, (number * 1e9, number * 1e9))
            path.chmod(0o644 if number else 0o664)
        zone = ("UTC", "Asia/Tokyo")[number]
        made.append(build(tree, tmp_path / f"dist{number}", kind, SOURCE_DATE_EPOCH="1700000000", TZ=zone))
    assert made[0].name == made[1].name and made[0].read_bytes() == made[1].read_bytes()


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
