"""The page of `zoo report`: complete, self-contained, reproducible, and safe for any text in a zoo."""

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tests.support.report_zoo import contents, facts, label_columns, states
from zooforge.zoo_jobs.report.charts.drawing import loss_axis, panel_svg
from zooforge.zoo_jobs.report.charts.maps import category_map_panel
from zooforge.zoo_jobs.report.contents import ByClass, Contents, RunAccount
from zooforge.zoo_jobs.report.fidelity import compare, references
from zooforge.zoo_jobs.report.page import page, pictures
from zooforge.zoo_jobs.report.population import population
from zooforge.zoo_jobs.report.weight_map import weight_map

PHONE_CHARACTER = 8.7  # width of a character of a map's texts at phone width (page.css: 14 px), in its own pixels
VOID = {"meta", "br", "img", "hr", "link", "input", "image", "use", "path"}


class Checker(HTMLParser):
    """Balances tags; collects ids, references, headings, texts, and attributes that could load something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.outward: list[str] = []
        self.tags: list[str] = []
        self.headings: list[str] = []
        self.unlabelled: list[str] = []
        self.texts: list[str] = []
        self.svg_texts: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attributes)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        for name, value in attributes:
            text = value or ""
            if name not in ("content", "aria-label"):
                self.references += re.findall(r"url\(#([^)]+)\)", text)
            if name in ("href", "xlink:href"):
                (self.references if text.startswith("#") else self.outward).append(text.removeprefix("#"))
            elif name in ("src", "srcset", "action", "data") or name.startswith("on"):
                self.outward.append(text)
            self.references += text.split() if name == "aria-labelledby" else []
        if tag == "svg" and not (given.get("role") == "img" and given.get("aria-labelledby")):
            self.unlabelled.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if self.open and self.open[-1] == "text":
            self.svg_texts.append(data)


def checked(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    return checker


BY_CLASS = ByClass(
    images_C=np.array([40, 60, 0]),
    predicted_C=np.array([0.5, 0.25, 0.25]),
    recall_NC=np.array([[1, 0.5, np.nan], [1, 0.7, np.nan], [np.nan] * 3]),
    macro_N=np.array([0.75, 0.85, np.nan]),
    largest_N=np.array([0.95, 0.5, np.nan]),
)


@pytest.fixture(scope="module")
def whole() -> Contents:
    """Contents with faulty models, twins, comparisons and an account, so that every section is there."""
    made = contents()
    reference = replace(references()["fashion-mnist-cnn-s-hyp-random"])
    account = RunAccount(
        zoo=made.facts.name,
        plan="The plan is the one written down at the first start.",
        planned={"wall_seconds": 100.0, "dollars": 1.0},
        actual={"wall_seconds": 120.0, "dollars": 1.1, "wasted_dollars": 0.1, "preemptions": 2},
        attempts=((1000.0, 1060.0, "preempted"), (1070.0, None, "no end")),
        problems=((1060.0, "preempted", "a worker was lost"),),
    )
    comparisons = compare(reference, made.population, True)
    return replace(made, comparisons=comparisons, accounts=(account,), by_class=BY_CLASS)


@pytest.fixture(scope="module")
def html(whole: Contents) -> str:
    return page(whole)


def test_every_section_is_there_in_reading_order(html: str) -> None:
    assert checked(html).headings == [
        "In short", "Accuracy and loss over epochs", "Final accuracy by hyperparameter", "Results by class",
        "Map of the weights", "Generalisation gap", "Sparse twins", "Faulty models", "Best and worst models",
        "What is here", "Fidelity to the reference", "How it was made", "Provenance",
    ]  # fmt: skip


def test_results_by_class_have_a_row_per_class_and_name_models_with_one_answer(html: str) -> None:
    part = html.split('id="classes"')[1].split("</section>")[0]
    assert "is 80.0%. 1 model gave one answer for more than 90% of the images" in part
    cells = [re.sub(r"<[^>]+>", " ", row).split() for row in part.split("<tr>")[2:]]
    assert [row[:3] for row in cells] == [["0", "40", "50.0%"], ["1", "60", "25.0%"], ["2", "0", "25.0%"]]
    assert cells[1][5] == "60.0%" and cells[2][5] == "–"


def test_the_page_needs_nothing_from_anywhere(html: str) -> None:
    checker = checked(html)
    assert [link for link in checker.outward if not link.startswith("data:image/png;base64,")] == []
    assert re.findall(r"https?://|//[a-z]|@import|url\((?!#)", html) == []
    assert {"script", "link", "iframe", "object", "embed"} & set(checker.tags) == set()


def test_tags_balance_ids_are_unique_and_references_lead_somewhere(html: str) -> None:
    checker = checked(html)
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    assert set(checker.references) <= set(checker.ids)


def test_charts_have_the_font_of_the_page(html: str) -> None:
    texts = re.findall(r'<text[^>]*style="([^"]*)"', html)
    assert texts and all("var(--font)" in style and "'" not in style for style in texts)


def test_every_chart_has_a_text_with_numbers_and_every_table_a_caption(html: str) -> None:
    checker = checked(html)
    assert checker.unlabelled == []
    assert checker.tags.count("table") == checker.tags.count("caption")
    assert checker.tags.count("svg") == checker.tags.count("figcaption")
    assert "Test accuracy over epochs: median" in html
    alternatives = re.findall(r'<title id="[^"]+-alt">([^<]*)</title>', html)
    assert len(alternatives) == checker.tags.count("svg")
    assert [text for text in alternatives if not re.search(r"\d", text) or len(text.split()) < 6] == []
    assert checker.tags.count("h1") == 1


def test_the_page_says_how_much_is_there_and_where_it_comes_from(html: str) -> None:
    for text in ("64 of 2,560 models, 6 of 50 epochs", "0123456789abcdef" * 2, "ab" * 32, "lanes 1, avx512"):
        assert text in html


def test_faulty_models_are_listed_with_epoch_and_reason(html: str) -> None:
    assert "3 of 64 models: 2 by a weight that is not a number and 1 by an infinite weight" in html
    assert re.search(r'<tr><td class="n">9</td><td class="n">4</td><td>inf</td>', html)
    assert "4 of 64 twins: 1 by a weight that is not a number and 3 by a faulty parent" in html


def test_equal_zoos_give_equal_bytes(whole: Contents, html: str) -> None:
    again = contents()
    assert page(replace(again, comparisons=whole.comparisons, accounts=whole.accounts, by_class=BY_CLASS)) == html
    small = contents(4, 2, twins=False, with_faulty=False)
    assert pictures(small) == pictures(contents(4, 2, twins=False, with_faulty=False))


def test_a_persons_own_style_of_plots_changes_no_byte(html: str, whole: Contents) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert page(whole) == html
        assert mpl.rcParams["font.size"] == 30


def test_pictures_are_png_on_white_one_per_section_with_charts(whole: Contents) -> None:
    checker = pictures(contents(8, 2, with_faulty=False))
    assert {"accuracy-over-epochs.png", "final-accuracy.png", "weights.png", "sparsification.png"} <= set(checker)
    for data in checker.values():
        image = Image.open(BytesIO(data))
        assert image.format == "PNG"
        assert image.getpixel((0, 0))[:3] == (255, 255, 255)
        assert "Software" not in image.info


@pytest.mark.parametrize(("num_models", "num_epochs"), [(1, 1), (1, 0), (2, 1)])
def test_the_smallest_zoos_have_a_page(num_models: int, num_epochs: int) -> None:
    made = contents(num_models, num_epochs, twins=False, with_faulty=False)
    assert checked(page(made)).open == []
    assert pictures(made)


def test_a_zoo_without_a_single_sound_model_has_a_page() -> None:
    here = population(label_columns(3, 2, dict.fromkeys(range(3), (0, "nan"))))
    html = page(Contents(facts(), here))
    assert "3 of 3 models" in html
    assert checked(html).open == []


def test_twins_have_a_page_of_their_own() -> None:
    twins = contents(8, 2, with_faulty=False).twins
    assert twins is not None
    assert "Sparse twins" in checked(page(twins)).headings


def test_names_and_texts_are_escaped() -> None:
    hostile = facts(description='<script>alert("x")</script> & more', dataset='"><img src=x onerror=y>')
    html = page(replace(contents(2, 1, twins=False, with_faulty=False), facts=hostile))
    checker = checked(html)
    assert {"script", "img"} & set(checker.tags) == set()
    assert all(link.startswith("data:image/png;base64,") for link in checker.outward)


HOSTILE = " ".join(
    (
        r"$\frac{$",
        "url(#a)",
        'x" id="y" onload="z',
        '<script>alert("x")</script>',
        "--> <!-- {{ 7 * 7 }} {% raw %}",
        "font: 'x'; #1b1f24",
        "b^c \\d & </svg>",
    )
)


def test_a_hostile_text_anywhere_in_a_zoo_is_shown_and_does_nothing() -> None:
    text = HOSTILE
    columns = label_columns(8, 2, {5: (1, "nan")})
    columns["activation"] = [text if value == "relu" else value for value in columns["activation"]]
    columns["initializer"] = [text if value == "normal" else value for value in columns["initializer"]]
    population_of_text = population(columns)
    account = RunAccount(
        zoo=text,
        plan=text,
        planned={},
        actual={"wall_seconds": 1.0},
        attempts=((0.0, 1.0, text),),
        problems=((0.0, text, text),),
    )
    hostile = Contents(
        facts(
            name=text, description=text, kind=text, dataset=text, architecture=text, run=text, manifest_sha256=text,
            engines=(text,), sources=((text, text),), axes={"activation": ("tanh", text)},
        ),
        population_of_text,
        weight_map(states(population(label_columns(8, 2, {5: (1, "nan")})))),
        accounts=(account,),
        notes=(text,),
    )  # fmt: skip
    html = page(hostile)
    checker = checked(html)
    assert checker.open == []
    assert "script" not in checker.tags
    assert all(link.startswith("data:image/png;base64,") for link in checker.outward)
    assert len(checker.ids) == len(set(checker.ids))
    assert set(checker.references) <= set(checker.ids)
    assert " ".join(checker.texts).count(text) >= 10  # in headings, tables and notes
    assert text in checker.svg_texts, "a chart shows it unchanged"
    assert pictures(hostile)


def test_the_words_of_a_legend_stay_apart_when_a_phone_enlarges_them() -> None:
    zoo = population(label_columns(8, 2))
    panel = category_map_panel(weight_map(states(zoo)), "initializer", zoo.hyperparameters["initializer"])
    labels = r'<text[^>]*\bx="([\d.]+)" y="([\d.]+)"[^>]*>((?:kaiming )?(?:uniform|normal))</text>'
    placed = sorted((float(y), float(x), word) for x, y, word in re.findall(labels, panel_svg(panel, "map")))
    assert len(placed) == 4
    for (line, left, word), (next_line, right, _) in itertools.pairwise(placed):
        assert line != next_line or left + PHONE_CHARACTER * len(word) < right


@pytest.mark.parametrize("high", [21.0, 60.0, 900.0, 1e4, 1e9])
def test_a_logarithmic_axis_of_losses_has_two_labels_or_more(high: float) -> None:
    for low in (0.11, 0.4, 0.99):
        axes = Figure().add_subplot()
        axes.plot([0, 1], [low, low * high])
        loss_axis(axes, low, low * high)
        shown = [tick for tick in axes.get_yticks() if low <= tick <= low * high]
        assert 2 <= len(shown) <= 6


def test_drawing_logs_nothing(whole: Contents, caplog: pytest.LogCaptureFixture) -> None:
    page(whole)
    assert caplog.records == []


def test_a_large_zoo_stays_small_on_disk() -> None:
    made = contents(2560, 1, twins=False, with_faulty=False)
    assert len(page(made)) < 4_000_000
