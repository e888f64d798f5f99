"""The structure of the code: its modules, their imports, and the order of the folders.

``python -m tests.support.house`` writes the map that CONTRIBUTING.md shows, docs/images/house.svg.
"""

import ast
import html
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .paths import ROOT

ROOMS = ("storage", "zoo_jobs", "cluster")
ORDER = {
    "storage": [
        "errors.py", "budget.py", "canonical.py", "keys.py", "quantities.py", "stores", "formats", "runs", "publish",
        "read", "views", "zoo.py", "ops", "interchange", "deposit",
        "commands", "cli.py",
    ],
    "zoo_jobs": [
        "errors.py", "quantities.py", "closed.py", "who.py", "logs.py", "events.py", "models", "data", "sparsify",
        "tasks", "spec", "engines", "planning", "catalogue", "watching", "metrics", "report", "site", "integrations",
        "running", "publishing", "tuning", "benchmark", "commands", "cli.py", "unattended",
    ],
}  # fmt: skip
"""Files and folders of a room from the ground up: each imports only itself and what stands before it."""
MAP = ROOT / "docs" / "images" / "house.svg"


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
    paths = (path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "__pycache__" not in path.parts)
    return tuple(sorted(path.relative_to(ROOT) for path in paths))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def imports_of(path: Path) -> Iterator[Import]:
    """The modules of this clone that a module imports, anywhere in it, imports for type checkers included."""
    path = (ROOT / path).relative_to(ROOT)
    for node in ast.walk(_tree(path)):
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
    names = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def place_of(path: Path) -> str:
    """The file or folder of its room in which a module lies."""
    return path.parts[1]


def folder_of(path: Path) -> str:
    return str(path.parent)


def sentence_of(path: Path) -> str:
    """The first sentence of a module's docstring, on one line; empty without a docstring."""
    docstring = " ".join((ast.get_docstring(_tree(path)) or "").split("\n\n")[0].split())
    return docstring.split(". ")[0].rstrip(".")


def drawn() -> str:
    """The map as SVG: a column per room, its files and folders from the ground up; imports point down and left."""
    places = {room: list(ORDER.get(room, ["cluster"])) for room in ("storage", "zoo_jobs")}
    width, line, columns = 560, 14, {"storage": 20, "zoo_jobs": 620}
    boxes, bottoms = [], {}
    tops = dict.fromkeys(places, 70)
    for room, names in places.items():
        y = tops[room]
        for name in reversed(names):
            init = Path(room) / name / "__init__.py"
            is_folder = name[-3:] != ".py"
            words = sentence_of(init if is_folder else Path(room) / name)
            lines = textwrap.wrap(words, 68)[:2]
            height = 22 + line * len(lines)
            boxes.append(_box(columns[room], y, width, height, name + "/" * is_folder, lines, is_folder))
            y += height + 6
        bottoms[room] = y
    y = bottoms["storage"] + 50
    lines = textwrap.wrap(sentence_of(Path("cluster/__init__.py")), 68)
    boxes.append(_title(20, y - 12, "cluster/ imports no other room"))
    boxes.append(_box(20, y, width, 22 + line * len(lines), "cluster/", lines, True))
    titles = [_title(20, 48, "storage/ imports no other room"), _title(620, 48, "zoo_jobs/ imports storage")]
    note = '<text x="20" y="22" class="note">Each box imports only boxes below it in its room.</text>'
    size = f'width="1200" height="{max(bottoms["zoo_jobs"], y + 80)}"'
    style = (
        "text{font-family:sans-serif;fill:#1a1a1a}.name{font-size:13px;font-weight:bold;font-family:monospace}"
        ".says{font-size:12px}.room{font-size:16px;font-weight:bold}.note{font-size:13px}"
    )
    body = "\n".join([note, *titles, *boxes])
    title = "<title>The folders of zooforge, from the ground up, and what belongs in each</title>"
    background = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{title}<style>{style}</style>{background}\n{body}\n</svg>\n'


def _title(x: int, y: int, text: str) -> str:
    return f'<text x="{x}" y="{y}" class="room">{html.escape(text)}</text>'


def _box(x: int, y: int, width: int, height: int, name: str, lines: list[str], is_folder: bool) -> str:
    fill = "#e8f0fb" if is_folder else "#f4f4f4"
    text = [f'<text x="{x + 10}" y="{y + 16}" class="name">{html.escape(name)}</text>']
    text += [
        f'<text x="{x + 10}" y="{y + 31 + 14 * n}" class="says">{html.escape(words)}</text>'
        for n, words in enumerate(lines)
    ]
    rect = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="4" fill="{fill}" stroke="#8a9bb5"/>'
    return rect + "".join(text)


if __name__ == "__main__":
    MAP.write_text(drawn())
