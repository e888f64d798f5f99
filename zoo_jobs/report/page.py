"""The page: one HTML file that needs nothing else, and the PNGs beside it."""

from pathlib import Path

import numpy as np

from . import words
from .account import made
from .chart_sections import final_accuracy, gap, over_epochs, sparsification, weights
from .contents import Contents
from .drawing import panel_svg, panels_png
from .markup import escape
from .section import Section, extent
from .statistics import quantiles
from .table_sections import coverage, extremes, faulty, fidelity, provenance, summary

_CSS = Path(__file__).with_name("page.css")


def all_sections(contents: Contents) -> list[Section]:
    """Those that this zoo has something for, in reading order."""
    found = [
        summary(contents),
        over_epochs(contents),
        final_accuracy(contents),
        weights(contents),
        gap(contents),
        sparsification(contents),
        faulty(contents),
        extremes(contents),
        coverage(contents),
        fidelity(contents),
        made(contents.accounts) if contents.accounts else None,
        provenance(contents),
    ]
    return [section for section in found if section is not None]


def page(contents: Contents) -> str:
    """The HTML. Equal contents give equal text."""
    facts = contents.facts
    found = all_sections(contents)
    links = "".join(f'<li><a href="#{section.name}">{escape(section.title)}</a></li>' for section in found)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(facts.name)}: report</title>\n"
        f'<meta name="description" content="{escape(facts.description)}">\n'
        f"<style>\n{_CSS.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#in-short">Skip to the findings</a>\n'
        f'<header>\n<p class="kicker">Model zoo: {escape(facts.dataset)}, {escape(facts.architecture)}</p>\n'
        f'<h1>{escape(facts.name)}</h1>\n<p class="lede">{escape(facts.description)}</p>\n{_facts(contents)}\n'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n</header>\n<main>\n'
        + "\n".join(_section(section) for section in found)
        + "\n</main>\n"
        f"<footer>Version {facts.version} of {escape(facts.name)}, run {escape(facts.run[:8])}, manifest "
        f"{escape(facts.manifest_sha256[:12])}. Written by zoo report.</footer>\n</body>\n</html>\n"
    )


def pictures(contents: Contents) -> dict[str, bytes]:
    """File name to PNG, one per section with charts."""
    return {
        f"{section.name}.png": panels_png(section.panels, section.columns)
        for section in all_sections(contents)
        if section.panels
    }


def _section(section: Section) -> str:
    figures = ""
    if section.panels:
        body = "\n".join(
            f"<figure><figcaption>{escape(panel.title)}<span>{escape(panel.note)}</span></figcaption>\n"
            f"{panel_svg(panel, f'{section.name}-{number}')}</figure>"
            for number, panel in enumerate(section.panels, 1)
        )
        figures = f'<div class="panels{" large" if section.large else ""}">\n{body}\n</div>\n'
    return (
        f'<section id="{section.name}" aria-labelledby="{section.name}-title">\n'
        f'<h2 id="{section.name}-title">{escape(section.title)}</h2>\n'
        f"{section.before}\n{figures}{section.after}\n</section>"
    )


def _facts(contents: Contents) -> str:
    facts, here = contents.facts, contents.population
    q = quantiles(here.final("test_acc"))
    spread = f"middle half {words.percent(q[1])} to {words.percent(q[3])}" if np.isfinite(q[2]) else "no finite model"
    last = int(here.epochs_E[-1])
    shown = [
        ("Models", words.count(here.num_models), f"of {words.count(facts.num_models)}"),
        ("Epochs", words.count(last), f"of {words.count(facts.num_epochs)}, and the initial state"),
        ("Model states", words.count(here.num_states), f"{words.count(facts.num_parameters)} parameters each"),
        ("Test accuracy", words.percent(q[2]), spread),
        ("Faulty", words.count(int((~here.sound_N).sum())), "kept and labelled"),
    ]
    if contents.twins is not None:
        twins = contents.twins.population
        sparsity = quantiles(twins.final("sparsity_ratio"))[2]
        shown.append(
            ("Twins' sparsity", words.percent(sparsity), f"{words.count(twins.num_models, 'sparse twin')}, median")
        )
    body = "".join(
        f"<div><dt>{escape(n)}</dt><dd>{escape(v)}<small>{escape(s)}</small></dd></div>" for n, v, s in shown
    )
    return f'<dl class="facts" aria-label="{escape(extent(contents))}">{body}</dl>'
