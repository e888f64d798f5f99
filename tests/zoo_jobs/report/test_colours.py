"""Contrast as in WCAG 2.2 (texts 4.5:1, lines 3:1), and colours as colour-blind people see them."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from zooforge.zoo_jobs import report
from zooforge.zoo_jobs.report.charts.drawing import (
    BLUE,
    CATEGORIES,
    COLOUR_MAP,
    GREEN,
    GRID,
    INK,
    MUTED,
    OCHRE,
    PAPER,
    PLUM,
    SKY,
    VERMILION,
    text_colour,
)

CSS = (Path(report.__path__[0]) / "page.css").read_text()
MODES = {
    "light": dict(re.findall(r"--(\w+): (#\w{6})", CSS.split("@media")[0])),
    "dark": dict(re.findall(r"--(\w+): (#\w{6})", CSS.split("prefers-color-scheme: dark")[1].split("@media")[0])),
}
LINES = ("blue", "green", "vermilion", "ochre", "plum")
# Machado, Oliveira, Fernandes (2009), A Physiologically-based Model for Simulation of Color Vision Deficiency, table 1,
# severity 1, on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(colour: object) -> NDArray[np.float64]:
    """Linear RGB of a colour, [3]."""
    rgb = np.array(to_rgb(colour))  # type: ignore[arg-type]
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(one: object, other: object) -> float:
    low, high = sorted(float(linear(colour) @ (0.2126, 0.7152, 0.0722)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE L*a*b* (D65) of linear RGB, [3]."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    x, y, z = np.cbrt(np.clip(xyz / (0.9505, 1, 1.089), 0.0001, None))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("mode", MODES)
def test_texts_and_lines_of_the_page_stand_out_from_its_paper(mode: str) -> None:
    colours = MODES[mode]
    for name in ("ink", "muted", "accent", "good", "bad"):
        assert min(contrast(colours[name], colours[ground]) for ground in ("paper", "wash")) >= 4.5, name
    for name in LINES:
        assert contrast(colours[name], colours["paper"]) >= 3, name


def test_the_pictures_have_the_colours_of_the_light_page() -> None:
    assert {BLUE, GREEN, SKY, VERMILION, OCHRE, PLUM} <= set(MODES["light"].values())
    assert {INK, MUTED, GRID, PAPER} <= set(MODES["light"].values())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("vision", VISIONS)
def test_categories_can_be_told_apart_by_everybody(mode: str, vision: str) -> None:
    variables = {colour: name for name, colour in MODES["light"].items()}  # the page replaces these
    colours = [MODES[mode].get(variables.get(colour, ""), colour) for colour in CATEGORIES]
    seen = [lab(np.clip(np.array(VISIONS[vision]) @ linear(colour), 0, 1)) for colour in colours]
    closest = min(math.dist(one, other) for one, other in itertools.combinations(seen, 2))
    assert closest >= 10  # a difference of 2.3 is just noticeable


def test_a_number_on_any_cell_of_a_heat_map_can_be_read() -> None:
    shares = np.linspace(0, 1, 201)
    assert min(contrast(text_colour(share), colormaps[COLOUR_MAP](share)) for share in shares) >= 4.5
