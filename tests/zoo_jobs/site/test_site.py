"""`zoo site`: pages that load nothing from elsewhere, and whose code runs."""

import html
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.made_runs import NAME, parent, twins, whole_run
from tests.support.paths import ROOT
from zooforge.storage.stores.open import open_store
from zooforge.storage.zoo import open_zoo
from zooforge.zoo_jobs.catalogue import in_store
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.publishing.publish import publish
from zooforge.zoo_jobs.site.contact_sheet import mosaic
from zooforge.zoo_jobs.site.snippets import snippets

pytestmark = pytest.mark.slower
EXAMPLE = ROOT / "storage" / "example"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    assert main(["site", str(EXAMPLE), str(folder), "--url", "https://zoos.example/all"]) == 0
    return folder


def test_the_index_leads_to_a_page_for_each_zoo(pages: Path) -> None:
    text = (pages / "index.html").read_text()
    links = re.findall(r'<a href="([^"]+)"', text)
    assert links == ["digits-example/index.html", "digits-example-vd/index.html"]
    for link in links:
        page = (pages / link).read_text()
        assert 'id="contact-sheet"' in page and 'id="load"' in page and "accuracy-over-epochs" in page
        assert "https://zoos.example/all/zoos/digits-example" in page
        assert page.count("First-layer weights of model") == 12
    assert "16 of 16 models, 4 of 4 epochs" in text and "median 88.3%" in text
    assert "is pruned by variational dropout" in (pages / "digits-example/index.html").read_text()


def test_no_page_loads_anything_from_elsewhere_or_names_this_machine(pages: Path) -> None:
    for page in pages.rglob("*.html"):
        text = page.read_text()
        assert "<script" not in text and "@import" not in text and "url(" not in re.sub(r"url\(#", "", text)
        sources = re.findall(r'(?:src|href|action|data)="([^"]*)"', text)
        assert all(
            source.startswith(("#", "data:image/png;base64,")) or (page.parent / source).is_file() for source in sources
        )
        assert str(EXAMPLE) not in text


@pytest.mark.parametrize("heading", ["Python", "PyTorch", "DuckDB"])
def test_the_code_on_the_pages_runs(heading: str, pages: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if heading == "DuckDB":
        pytest.importorskip("duckdb", reason="duckdb is not installed")
    zoo = open_zoo(EXAMPLE / "zoos" / "digits-example")
    shown = snippets(zoo.manifest, "https://zoos.example/all")[heading]
    assert shown.strip() in html.unescape((pages / "digits-example/index.html").read_text())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(snippets(zoo.manifest, str(EXAMPLE))[heading], names)
    if heading == "Python":
        assert names["states"].values.shape == (10, 2464) and len(names["accuracy"]) == 10
    elif heading == "PyTorch":
        assert names["tokens"]
    else:
        best = zoo.labels(columns=["test_acc"])["test_acc"].to_numpy()
        assert len(names["best"]) == 5 and names["best"][0][2] == best.max()


def test_the_command_on_the_pages_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = open_zoo(EXAMPLE / "zoos" / "digits-example")
    monkeypatch.chdir(tmp_path)
    words = shlex.split(snippets(zoo.manifest, str(EXAMPLE))["Shell"], comments=True)
    assert main(words[1:]) == 0
    assert open_zoo(tmp_path / "DIR/zoos/digits-example") == zoo


def test_equal_stores_give_equal_pages(pages: Path, tmp_path: Path) -> None:
    assert main(["site", str(EXAMPLE), str(tmp_path), "--url", "https://zoos.example/all"]) == 0
    found, expected = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*.*")} for f in (tmp_path, pages))
    assert found == expected


def test_a_page_cites_the_authors_of_a_publication(tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    words = ["--to", str(store), "--epochs", "last", "--author", "Doe, Jane"]
    assert main(["publish", "digits-example", "--store", str(EXAMPLE), *words]) == 0
    assert main(["site", str(store), str(out)]) == 0
    assert "author = {Doe, Jane}" in (out / "digits-example/index.html").read_text()


def test_zoos_with_faulty_models_have_pages_and_unpublished_ones_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(str(tmp_path / "store"))
    whole_run(store, parent(), 4, 1, faulty={3: 1})
    publish(store, parent())
    in_store.register(store, twins(1))
    assert main(["site", str(tmp_path / "store"), str(tmp_path / "out")]) == 0
    assert f"{NAME}-vd" in capsys.readouterr().err
    assert (tmp_path / "out" / NAME / "index.html").is_file()


def test_a_store_without_zoos_and_a_file_in_the_way_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").mkdir()
    assert main(["site", str(tmp_path / "store"), str(tmp_path / "out")]) == 2
    assert "no zoo is published here" in capsys.readouterr().err
    assert main(["site", str(tmp_path / "nowhere"), str(tmp_path / "out")]) == 2
    (tmp_path / "file").touch()
    assert main(["site", str(EXAMPLE), str(tmp_path / "file")]) == 2
    assert not (tmp_path / "out").exists()


def test_a_contact_sheet_shows_kernels_side_by_side_in_order() -> None:
    kernels = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)
    picture = mosaic(kernels)
    assert picture[:, :2].tolist() == [[0, 1], [2, 3]] and picture[:, 3:].tolist() == [[4, 5], [6, 7]]
    assert np.isnan(picture[:, 2]).all()
    assert mosaic(np.zeros((3, 4), np.float32)).shape == (3, 4)
