"""Import rules: rooms import in one direction, folders import folders below them, heavy packages have one place."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.house import (
    MAP,
    ORDER,
    ROOMS,
    Import,
    drawn,
    folder_of,
    imports_of,
    modules,
    place_of,
    sentence_of,
    top_level_names,
)

FORBIDDEN = {"storage": {"zoo_jobs", "cluster"}, "zoo_jobs": {"cluster"}, "cluster": {"zoo_jobs", "storage"}}

ONLY_IN = {
    "ray": {
        *(f"zoo_jobs/running/slots/ray_{part}.py" for part in ("cluster", "pool", "worker")),
        "zoo_jobs/tuning/trials.py",
    },
    "boto3": {"storage/stores/s3/client.py"},
    "botocore": {"storage/stores/s3/client.py", "storage/stores/s3/errors.py"},
    "pickle": {"storage/formats/restricted_pickle.py"},
}
LARGEST = {"zoo_jobs/commands": 30, "cluster": 26}
"""Folders that may hold more than 18 files: one file per verb, and one room that is one activity."""

HEAVY = ("torch", "ray", "boto3", "botocore", "kubernetes", "prometheus_client", "matplotlib", "pyarrow", "sklearn")


def every_import() -> list[Import]:
    return [one for path in modules() for one in imports_of(path)]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_that_it_may(room: str) -> None:
    broken = [str(one) for one in every_import() if one.source.parts[0] == room]
    broken = [text for text in broken if text.split(" -> ")[1].split("/")[0] in FORBIDDEN[room]]
    assert broken == []


def test_a_room_is_imported_as_part_of_zooforge_and_from_inside_by_relative_imports() -> None:
    """With this rule, imports work in a clone, in the image, and in a wheel that contains the rooms in ``zooforge``."""
    bare = [str(path) for path in modules() if top_level_names(path) & set(ROOMS)]
    inside = [str(one) for one in every_import() if one.absolute and one.source.parts[0] == one.target.parts[0]]
    assert (bare, inside) == ([], [])


@pytest.mark.parametrize("room", ORDER)
def test_the_order_names_every_file_and_folder_of_a_room(room: str) -> None:
    assert {place_of(path) for path in modules() if path.parts[0] == room and len(path.parts) > 1} - {
        "__init__.py"
    } == set(ORDER[room])


@pytest.mark.parametrize("room", ORDER)
def test_no_import_points_back_up(room: str) -> None:
    rank = {name: number for number, name in enumerate(ORDER[room])}
    inside = [one for one in every_import() if one.source.parts[0] == one.target.parts[0] == room]
    up = [
        str(one)
        for one in inside
        if place_of(one.target) != "__init__.py" and rank[place_of(one.target)] > rank[place_of(one.source)]
    ]
    assert up == []


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    arrows: dict[Path, set[Path]] = {}
    for one in every_import():
        arrows.setdefault(one.source, set()).add(one.target)
    done: set[Path] = set()

    def visit(path: Path, trail: tuple[Path, ...]) -> None:
        assert path not in trail, " -> ".join(map(str, (*trail[trail.index(path) :], path)))
        if path not in done:
            for target in sorted(arrows.get(path, ())):
                visit(target, (*trail, path))
            done.add(path)

    for path in sorted(arrows):
        visit(path, ())


def test_no_test_module_imports_another() -> None:
    """Helpers that several tests share are in ``tests/support``."""
    tests = [path for path in Path("tests").rglob("*.py") if "__pycache__" not in path.parts]
    shared = [str(one) for path in tests for one in imports_of(path) if one.target.name.startswith("test_")]
    assert shared == []


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_package_is_imported_in_its_one_place(package: str) -> None:
    assert {str(path) for path in modules() if package in top_level_names(path)} <= ONLY_IN[package]


def pure_modules() -> Iterator[str]:
    """Modules whose docstring calls them pure."""
    for path in modules():
        if "Pure." in (ast.get_docstring(ast.parse(path.read_text())) or ""):
            yield ".".join(("zooforge", *path.with_suffix("").parts))


@pytest.mark.parametrize("module", list(pure_modules()))
def test_a_pure_module_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(' '.join(sorted(set({HEAVY!r}) & set(sys.modules))))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_a_folder_is_one_activity_of_about_a_dozen_files() -> None:
    sizes: dict[str, int] = {}
    for path in modules():
        if path.name != "__init__.py":
            sizes[folder_of(path)] = sizes.get(folder_of(path), 0) + 1
    assert {folder: size for folder, size in sizes.items() if size > LARGEST.get(folder, 18)} == {}


def test_the_map_of_the_house_is_up_to_date() -> None:
    assert MAP.read_text() == drawn(), "run `make docs`"


def test_every_folder_says_what_belongs_there() -> None:
    silent = [
        str(path) for path in modules() if path.name == "__init__.py" and len(path.parts) > 2 and not sentence_of(path)
    ]
    assert silent == []
