"""Output for people: drawings in notebooks, a progress bar for large reads, a note about servers without ranges."""

import io
import logging
import pickle
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zooforge
from tests.support.module_zoo import module_zoo
from tests.support.synthetic import copy_zoo, tiny_zoo
from tests.support.web_server import Files, serve_folder
from zooforge.storage.formats.drawing import histogram
from zooforge.storage.read import gather
from zooforge.storage.stores.local import LocalStore
from zooforge.storage.zoo import Zoo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy_zoo(tiny_zoo(), "tiny-zoo", LocalStore(tmp_path / "store"))
    return tmp_path / "store"


def figures(text: str) -> list[Any]:
    """SVG elements of well-formed HTML."""
    return ET.fromstring(f"<div>{text}</div>").findall(".//svg")


def test_a_notebook_shows_facts_and_a_small_drawing() -> None:
    zoo, twins = zooforge.example(), zooforge.example(twins=True)
    for shown in (zoo, twins, zoo.weights(), zoo[3, -1], zoo.layout):
        text = shown._repr_html_()
        assert len(text) < 10_000 and len(figures(text)) == (shown is not zoo.layout)
    assert [bool(svg.get("aria-label")) for svg in figures(zoo.weights()._repr_html_())] == [True]
    assert "digits8" in zoo._repr_html_() and "digits-example, epoch 4" in twins._repr_html_()
    assert "linear2.bias" in zoo.layout._repr_html_()


def test_the_curve_of_a_zoo_is_its_test_accuracy() -> None:
    zoo = zooforge.example()
    (svg,) = figures(zoo._repr_html_())
    assert svg.get("aria-label") == "the median is 0.10 at epoch 0 and 0.88 at epoch 4"
    points = [tuple(map(float, p.split(","))) for p in svg.find("polyline").get("points").split()]
    assert [x for x, _ in points] == [0, 60, 120, 180, 240]
    medians = [float(np.median(zoo.labels(epochs=e)["test_acc"].to_numpy())) for e in range(5)]
    assert [round(1 - y / 80, 2) for _, y in points] == pytest.approx(medians, abs=0.01)


def test_a_drawing_never_fails(folder: Path) -> None:
    zoo = zooforge.open_zoo(folder / "zoos/tiny-zoo")
    assert "no finite value" in zoo[5, 3]._repr_html_()  # this model is faulty
    assert len(figures(zoo.weights()._repr_html_())) == 1
    assert len(figures(histogram(np.zeros(5)))) == 1 and "no finite value" in histogram(np.zeros(0))
    assert "0 of 0 models" in zoo.weights(models=[])._repr_html_()
    (folder / zoo.manifest.labels.ref.key).unlink()
    assert figures(zooforge.open_zoo(folder / "zoos/tiny-zoo")._repr_html_()) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("progress", [True, False])
def test_a_large_read_draws_a_bar_on_a_terminal_unless_it_is_off(
    folder: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool, progress: bool
) -> None:
    monkeypatch.setattr(gather, "LARGE_READ_BYTES", 1000)
    zoo = zooforge.open_zoo(folder / "zoos/tiny-zoo", progress=progress)
    for one in (zoo, pickle.loads(pickle.dumps(zoo)), zoo.reopened()):
        err = Terminal() if terminal else io.StringIO()
        monkeypatch.setattr(sys, "stderr", err)
        one.weights(models=[0], epochs=0)
        assert err.getvalue() == ""
        one.weights()
        assert ("reading tiny-zoo" in err.getvalue() and "100%" in err.getvalue()) == (terminal and progress)
        assert terminal or err.getvalue() == ""


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], tuple[str, list[str]]]]:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = ExitStack()

    def start(folder: Path) -> tuple[str, list[str]]:
        paths: list[str] = []

        class Counts(Files):
            def do_GET(self) -> None:
                paths.append(self.path)
                super().do_GET()

        return running.enter_context(serve_folder(folder, Counts)), paths

    with running:
        yield start


def test_a_server_that_ignores_ranges_is_noticed_once_and_shards_are_read_whole(
    folder: Path, serve: Callable[[Path], tuple[str, list[str]]], caplog: pytest.LogCaptureFixture
) -> None:
    url, paths = serve(folder)
    expected = zooforge.open_zoo(folder / "zoos/tiny-zoo")
    zoo = zooforge.open_zoo(f"{url}/zoos/tiny-zoo")
    with caplog.at_level(logging.WARNING):
        for model in (7, 3, 21):
            for epoch in (3, 1, 2):
                assert zoo[model, epoch] == expected[model, epoch]
        assert zoo.weights() == expected.weights()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [f"{url}: this server ignores ranges: whole shards are read"]
    shards = [path for path in paths if path.endswith(".safetensors")]
    once = len(set(shards))
    assert len(shards) <= 2 + once  # the digests of blocks, and the reply that showed that ranges are ignored
    assert re.search(r"objects/sha256", shards[0])


def test_a_server_of_small_objects_is_not_suspected(
    tmp_path: Path, serve: Callable[[Path], tuple[str, list[str]]], caplog: pytest.LogCaptureFixture
) -> None:
    """A reply with all bytes is right if all of them were requested."""
    copy_zoo(module_zoo(), "tiny-zoo", LocalStore(tmp_path / "store"))
    url, _ = serve(tmp_path / "store")
    zoo: Zoo = zooforge.open_zoo(f"{url}/zoos/tiny-zoo")
    (tmp_path / "store/probe").write_bytes(b"0123456789")
    with caplog.at_level(logging.WARNING):
        assert zoo.store.get("probe", (0, 10))[0] == b"0123456789" and zoo.store.get("probe", (0, 20))[0]
    assert caplog.records == []
