"""Writes the pages of a store: ``ZOO/index.html`` for each zoo that it has published, and ``index.html`` for all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zooforge.storage.errors import NotPublished
from zooforge.storage.formats.manifest import Manifest
from zooforge.storage.keys import zoo_url
from zooforge.storage.ops.listing import ZooLine, list_store
from zooforge.storage.publish.cards import RECORD, carried_files
from zooforge.storage.publish.papers import credits_of
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import open_zoo

from ..report import words
from ..report.charts.drawing import panel_svg
from ..report.contents import Contents, extent
from ..report.page import rendered, write_report
from ..report.read import read_contents
from ..report.sections import accuracy_over_epochs
from ..report.statistics import quantiles
from . import contact_sheet, snippets


@dataclass(frozen=True)
class Site:
    """The pages that were written, and the zoos that have none since no version of them is published."""

    index: Path
    pages: tuple[Path, ...]
    left_out: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"index": str(self.index), "pages": [str(page) for page in self.pages], "left_out": list(self.left_out)}


def write_site(store: ObjectStore, url: str, folder: Path, address: str | None = None) -> Site:
    """Write the pages. Files with their names are replaced; equal stores give equal bytes.

    Args:
        url: of ``store``.
        address: of the store as readers of the pages reach it; None: ``url``.

    Raises:
        NotPublished: the store has no published zoo; nothing was written.
    """
    lines = list_store(store)
    published = [line for line in lines if line.manifest is not None]
    if not published:
        raise NotPublished(f"{store.url}: no zoo is published here")
    cards, pages = [], []
    for line in published:
        assert line.manifest is not None and line.number is not None
        contents = read_contents(store, url, line.name, line.number)
        zoo = open_zoo(zoo_url(url, line.name), line.number)
        sheet = contact_sheet.section(zoo, contents.population)
        papers = carried_files(store, line.name, line.number, (RECORD,))
        credits = credits_of(papers.get(RECORD, b""))
        load = snippets.section(line.manifest, address or url, line.number, credits)
        more = [load] if sheet is None else [sheet, load]
        pages.append(write_report(contents, folder / line.name, more).page)
        cards.append(_card(line, line.manifest, contents))
    index = folder / "index.html"
    index.write_text(rendered("index.html.j2", cards=cards, totals=_totals(published), svg=panel_svg), encoding="utf-8")
    return Site(index, tuple(pages), tuple(line.name for line in lines if line.manifest is None))


def _card(line: ZooLine, manifest: Manifest, contents: Contents) -> dict[str, Any]:
    accuracy = quantiles(contents.population.final("test_acc"))
    charts = accuracy_over_epochs.section(contents)
    size = words.size(sum(ref.bytes for ref in manifest.refs))
    facts = [
        ("Data", contents.facts.dataset),
        ("Network", f"{contents.facts.architecture}, {words.count(contents.facts.num_parameters)} weights"),
        ("Holds", extent(contents)),
        ("States", f"{words.count(manifest.num_states)}, {size}"),
    ]
    if np.isfinite(accuracy[2]):
        spread = f"{words.percent(accuracy[1])} to {words.percent(accuracy[3])}"
        facts.append(("Test accuracy", f"median {words.percent(accuracy[2])}, middle half {spread}"))
    if manifest.parent is not None:
        facts.append(("Twins of", manifest.parent.zoo))
    return {
        "name": line.name,
        "description": manifest.title,
        "facts": facts,
        "panel": charts.panels[0] if charts is not None and charts.panels else None,
    }


def _totals(lines: list[ZooLine]) -> list[tuple[str, str]]:
    manifests = [line.manifest for line in lines if line.manifest is not None]
    refs = {ref for manifest in manifests for ref in manifest.refs}
    return [
        ("Zoos", words.count(len(manifests))),
        ("Models", words.count(sum(manifest.num_models for manifest in manifests))),
        ("Model states", words.count(sum(manifest.num_states for manifest in manifests))),
        ("Size", words.size(sum(ref.bytes for ref in refs))),
    ]
