"""Hooks of `make docs-site`: documents from outside docs/ become pages of the site, and links lead to them."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "storage/example/README.md": "example.md",
    "requirements/demo.yaml": "demo.yaml",
}
"""Path from the root of the clone to the name in the site."""


def on_files(files: Any, config: Any) -> Any:
    for path, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **unused: Any) -> str:
    source = next((path for path, name in OUTSIDE.items() if name == page.file.src_uri), f"docs/{page.file.src_uri}")
    markdown = re.sub(r"\]\(([^)#\s:]+)(?=[)#])", lambda link: f"]({target(source, link[1])}", markdown)
    return re.sub(
        r"\[[\w/-]+\.md\]\(([^)#\s:]+)", lambda link: f"[{title(page.file.src_uri, link[1])}]({link[1]}", markdown
    )


def target(source: str, link: str) -> str:
    """A link of the document ``source`` as the site has it, relative to the page of that document."""
    path = (ROOT / source).parent.joinpath(link).resolve()
    if not path.is_relative_to(ROOT):
        return link
    return posixpath.relpath(place(path.relative_to(ROOT).as_posix()), posixpath.dirname(place(source)) or ".")


def title(page: str, link: str) -> str:
    """The heading of the page to which a link leads, in place of the name of a file as the text of the link."""
    name = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    path = next((path for path, place in OUTSIDE.items() if place == name), f"docs/{name}")
    return (ROOT / path).read_text(encoding="utf-8").partition("# ")[2].partition("\n")[0]


def place(path: str) -> str:
    """The place of a file of the clone in the site. The site's first page is not README.md."""
    return "index.md" if path == "README.md" else OUTSIDE.get(path, path.removeprefix("docs/"))
