"""Writes the report: one HTML page that loads nothing else, and one picture per section with charts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from . import words
from .blocks import Section
from .charts.drawing import panel_svg, panels_png
from .contents import Contents, extent
from .sections import (
    accuracy_over_epochs,
    best_and_worst,
    classes,
    coverage,
    faulty_models,
    fidelity,
    final_accuracy,
    generalisation_gap,
    how_it_was_made,
    in_short,
    learned_images,
    provenance,
    sparsification,
    weights,
)
from .statistics import quantiles

SECTIONS = (
    in_short,
    accuracy_over_epochs,
    final_accuracy,
    classes,
    weights,
    generalisation_gap,
    sparsification,
    faulty_models,
    best_and_worst,
    coverage,
    fidelity,
    how_it_was_made,
    provenance,
)
"""In reading order."""
OF_IMAGES = (
    in_short, learned_images, weights, sparsification, faulty_models, coverage, how_it_was_made, provenance,
)  # fmt: skip
"""The sections for a zoo whose models learn images."""

_FOLDER = Path(__file__).parent
_TEMPLATES = Environment(
    loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


@dataclass(frozen=True)
class Written:
    """The files of a report, and its findings as sentences and numbers."""

    zoo: str
    version: int
    page: Path
    pictures: tuple[Path, ...]
    extent: str
    findings: tuple[str, ...]
    num_faulty: int
    test_accuracy: tuple[float | None, ...]
    psnr: tuple[float | None, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "zoo": self.zoo,
            "version": self.version,
            "page": str(self.page),
            "pictures": [str(path) for path in self.pictures],
            "extent": self.extent,
            "findings": list(self.findings),
            "num_faulty": self.num_faulty,
            "test_accuracy_quantiles": list(self.test_accuracy),
            "psnr_quantiles": list(self.psnr),
        }


def write_report(contents: Contents, folder: Path, more: Sequence[Section] = ()) -> Written:
    """Write ``index.html`` and the pictures into ``folder``. Files with these names are replaced.

    Args:
        more: further sections, at the end of the page.
    """
    html, images = page(contents, more), pictures(contents)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in images.items():
        (folder / name).write_bytes(data)
    target = folder / "index.html"
    target.write_text(html, encoding="utf-8", errors="replace")

    def known(metric: str) -> tuple[float | None, ...]:
        values = quantiles(contents.population.final(metric))
        return tuple(float(q) if np.isfinite(q) else None for q in values)

    return Written(
        zoo=contents.facts.name,
        version=contents.facts.version,
        page=target,
        pictures=tuple(folder / name for name in images),
        extent=extent(contents),
        findings=tuple(in_short.findings(contents)),
        num_faulty=int((~contents.population.sound_N).sum()),
        test_accuracy=known("test_acc"),
        psnr=known("psnr"),
    )


def page(contents: Contents, more: Sequence[Section] = ()) -> str:
    """The HTML. Equal contents give equal text."""
    return rendered(
        "page.html.j2",
        facts=contents.facts,
        extent=extent(contents),
        figures=_figures(contents),
        sections=[*_sections(contents), *more],
        svg=panel_svg,
    )


def rendered(template: str, **values: Any) -> str:
    """A template of this folder as HTML, with the style of the report; texts are escaped."""
    css = (_FOLDER / "page.css").read_text(encoding="utf-8")
    return _TEMPLATES.get_template(template).render(css=css, **values)


def pictures(contents: Contents) -> dict[str, bytes]:
    """File name to PNG, one per section with charts."""
    return {
        f"{section.name}.png": panels_png(section.panels, section.columns)
        for section in _sections(contents)
        if section.panels
    }


def _sections(contents: Contents) -> list[Section]:
    modules = OF_IMAGES if contents.facts.task == "image_regression" else SECTIONS
    return [section for module in modules if (section := module.section(contents)) is not None]


def _figures(contents: Contents) -> list[tuple[str, str, str]]:
    """(name, value, note) of the figures at the top of the page."""
    facts, population = contents.facts, contents.population
    q = quantiles(population.final("test_acc"))
    spread = f"middle half {words.percent(q[1])} to {words.percent(q[3])}" if np.isfinite(q[2]) else "no finite model"
    headline = ("Test accuracy", words.percent(q[2]), spread)
    if facts.task == "image_regression":
        q = quantiles(population.final("psnr"))
        spread = f"middle half {words.decibels(q[1])} to {words.decibels(q[3])}"
        headline = ("PSNR", words.decibels(q[2]), spread if np.isfinite(q[2]) else "no finite model")
    last = int(population.epochs_E[-1])
    figures = [
        ("Models", words.count(population.num_models), f"of {words.count(facts.num_models)}"),
        ("Epochs", words.count(last), f"of {words.count(facts.num_epochs)}, and the initial state"),
        ("Model states", words.count(population.num_states), f"{words.count(facts.num_parameters)} parameters each"),
        headline,
        ("Faulty", words.count(int((~population.sound_N).sum())), "kept and labelled"),
    ]
    if contents.twins is not None:
        twins = contents.twins.population
        sparsity = quantiles(twins.final("sparsity_ratio"))[2]
        note = f"{words.count(twins.num_models, 'sparse twin')}, median"
        figures.append(("Twins' sparsity", words.percent(sparsity), note))
    return figures
