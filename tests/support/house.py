"""The house as its imports show it: ``python -m tests.support.house`` prints the map that CONTRIBUTING.md shows."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .paths import ROOT

ROOMS = ("storage", "zoo_jobs", "cluster")


@dataclass(frozen=True, slots=True, order=True)
class Import:
    """One module of this clone imports another; paths are relative to the clone."""

    source: Path
    target: Path
    absolute: bool

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}"


@cache
def modules() -> tuple[Path, ...]:
    """The modules of the rooms."""
    found = (path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "__pycache__" not in path.parts)
    return tuple(sorted(path.relative_to(ROOT) for path in found))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def imports_of(path: Path) -> Iterator[Import]:
    """What a module imports of this clone, anywhere in it, imports for type checkers left out."""
    path = (ROOT / path).relative_to(ROOT)
    for node in _walk(_tree(path)):
        if isinstance(node, ast.ImportFrom):
            base = _base(path, node)
            if base is None:
                continue
            for alias in node.names:
                target = _module(base / alias.name) or _module(base)
                if target is not None and target != path:
                    yield Import(path, target, node.level == 0)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                target = _module(Path(*parts[1:])) if parts[0] == "zooforge" and parts[1:] else None
                if target is not None:
                    yield Import(path, target, True)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _walk(child)


def _base(path: Path, node: ast.ImportFrom) -> Path | None:
    """The folder or module that an import's names come from, relative to the clone."""
    names = node.module.split(".") if node.module else []
    if node.level:
        folder = path.parent
        for _ in range(node.level - 1):
            folder = folder.parent
        return folder.joinpath(*names)
    if names[:1] == ["zooforge"]:
        return Path(*names[1:])
    return Path(*names) if names[:1] == ["tests"] else None


@cache
def _module(path: Path) -> Path | None:
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if (ROOT / candidate).is_file():
            return candidate
    return None


def top_level_names(path: Path) -> set[str]:
    """Top-level names that a module imports by absolute imports, anywhere in it."""
    found = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def place_of(path: Path) -> str:
    """The file or folder of its room in which a module lies."""
    return path.parts[1]


def folder_of(path: Path) -> str:
    return str(path.parent)
