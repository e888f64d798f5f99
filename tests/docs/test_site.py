"""The site of `make docs-site` has every document, and its links lead to pages."""

import posixpath
import re
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT
from tests.support.site_hooks import site_hook

CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Any:
    return site_hook("mkdocs_hooks", monkeypatch)


def pages(entries: Any) -> list[str]:
    if isinstance(entries, str):
        return [entries]
    values = entries.values() if isinstance(entries, dict) else entries
    return [page for value in values for page in pages(value)]


def test_every_document_is_in_the_navigation_once(hooks: Any) -> None:
    shown = pages(CONFIG["nav"])
    documents = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    documents |= {page for page in hooks.OUTSIDE.values() if page.endswith(".md")}
    documents |= {f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert sorted(shown) == sorted(documents)
    assert [next(iter(entry)) for entry in CONFIG["nav"]] == [
        "Start",
        "Tutorials",
        "How-to",
        "Reference",
        "Explanation",
        "Compared with",
        "FAQ",
    ]


def test_links_out_of_documents_lead_to_pages_of_the_site(hooks: Any) -> None:
    sources = {*hooks.OUTSIDE, *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))}
    there = {*hooks.OUTSIDE.values(), *(p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.*"))}
    for source in sources:
        text = re.sub(r"```.*?```", "", (ROOT / source).read_text(), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)#\s:]+)(?=[)#])", text):
            page = posixpath.join(posixpath.dirname(hooks.place(source)), hooks.target(source, link))
            assert posixpath.normpath(page) in there, (source, link)


def test_nothing_is_loaded_from_elsewhere() -> None:
    assert CONFIG["theme"]["font"] is False and CONFIG["extra"]["generator"] is False
    assert CONFIG["plugins"] == ["search"] and "extra_javascript" not in CONFIG
    assert CONFIG["extra_css"] == ["style.css"] and "url(" not in (ROOT / "docs" / "style.css").read_text()
    assert not any("mermaid" in path.read_text() for path in (ROOT / "docs").rglob("*.md"))


def test_the_lock_of_its_tools_has_hashes() -> None:
    text = (ROOT / "requirements" / "docs.lock").read_text()
    packages = re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE)
    assert "mkdocs-material" in packages and text.count("--hash=sha256:") >= len(packages)
