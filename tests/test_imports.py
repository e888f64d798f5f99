"""Who imports whom: rooms point one way, pure modules stay pure, heavy packages are imported where they are used."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("zoo_jobs", "storage", "cluster")
FORBIDDEN = {"storage": {"zoo_jobs", "cluster"}, "zoo_jobs": {"cluster"}, "cluster": {"zoo_jobs", "storage"}}
ONLY_IN = {
    "ray": {"zoo_jobs/ray_runner.py", "zoo_jobs/tune.py"},
    "boto3": {"storage/s3.py"},
    "botocore": {"storage/s3.py"},
    "pickle": {"storage/restricted_pickle.py"},
}
HEAVY = ("torch", "ray", "boto3", "botocore", "kubernetes", "prometheus_client", "matplotlib", "pyarrow", "sklearn")


def modules(room: str) -> Iterator[Path]:
    for path in sorted((ROOT / room).rglob("*.py")):
        if "__pycache__" not in path.parts:
            yield path


def imported(path: Path) -> set[str]:
    """Top-level names that a module imports, anywhere in it; relative imports are of its own room."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_that_it_may(room: str) -> None:
    broken = {str(p.relative_to(ROOT)): imported(p) & FORBIDDEN[room] for p in modules(room)}
    assert {path: names for path, names in broken.items() if names} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_inside_a_room_imports_are_relative(room: str) -> None:
    """So that the readers' wheel can carry ``storage`` inside ``zooforge``."""
    assert [str(p.relative_to(ROOT)) for p in modules(room) if room in imported(p)] == []


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_package_is_imported_in_its_one_place(package: str) -> None:
    found = {str(p.relative_to(ROOT)) for room in ROOMS for p in modules(room) if package in imported(p)}
    assert found <= ONLY_IN[package]


def pure_modules() -> list[str]:
    """Modules whose docstring calls them pure."""
    found = []
    for room in ROOMS:
        for path in modules(room):
            docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
            if "Pure." in docstring:
                found.append(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return found


@pytest.mark.parametrize("module", pure_modules())
def test_a_pure_module_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(' '.join(sorted(set({HEAVY!r}) & set(sys.modules))))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
