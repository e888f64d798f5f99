"""The code blocks of the documents, and what may be done with each.

A title after the language says it: ```` ```yaml title="my.yaml" ```` is a file that later blocks use, ```` ```sh
title="needs a cluster" ```` is not run by tests. Without a title, `sh` and `python` are run.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .paths import ROOT

FENCE = re.compile(r'^( *)```(\w*)(?: title="([^"\n]*)")?\n(.*?)^ *```', re.DOTALL | re.MULTILINE)
NEEDS = {"needs a cluster", "needs a network", "needs a token", "needs Slurm", "needs a GPU", "needs Fashion-MNIST"}
"""Titles of blocks that no test runs."""


@dataclass(frozen=True)
class Block:
    """One block of a page: its language, its title or an empty text, and its code."""

    language: str
    title: str
    code: str

    @property
    def is_file(self) -> bool:
        return re.fullmatch(r"[\w/-]+\.(ya?ml|py)", self.title) is not None

    @property
    def runs(self) -> bool:
        return self.language in ("sh", "python") and not self.title


def documents() -> list[Path]:
    """Every Markdown document, relative to the clone."""
    paths = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "storage" / "example" / "README.md"]
    return sorted(path.relative_to(ROOT) for path in paths)


def blocks(page: Path) -> Iterator[Block]:
    for indent, language, title, code in FENCE.findall((ROOT / page).read_text(encoding="utf-8")):
        yield Block(language, title, "".join(line.removeprefix(indent) for line in code.splitlines(keepends=True)))
