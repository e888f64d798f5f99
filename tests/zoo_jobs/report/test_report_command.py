"""`zoo report` and `zoo fidelity` on published zoos, through the store."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.made_runs import NAME, MadeRun, parent, twins, whole_run
from tests.support.paths import ROOT
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import open_zoo
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.publishing.publish import publish
from zooforge.zoo_jobs.report.page import page
from zooforge.zoo_jobs.report.read import account_of, read_contents
from zooforge.zoo_jobs.watching.facts import DriverStart, read_facts


def published(url: str) -> ObjectStore:
    """Publish a zoo of eight models, one of them faulty, and its twins."""
    store = open_store(url)
    whole_run(store, parent(), 8, 2, faulty={3: 1})
    whole_run(store, twins(2), 8, 2, faulty={3: 0, 5: 2})
    publish(store, parent())
    publish(store, twins(2))
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    return published(str(tmp_path_factory.mktemp("report") / "store"))


def test_the_report_shows_the_zoo_its_twins_and_how_it_was_made(
    store: ObjectStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", NAME, "--store", store.url, "--out", str(tmp_path / "out"), "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    html = Path(output["page"]).read_text()
    assert output["extent"] == "8 of 2,560 models, 2 of 50 epochs"
    assert output["num_faulty"] == 1
    assert all(Path(path).stat().st_size > 1000 for path in output["pictures"])
    for text in (f"{NAME}-vd-e002", "sequential, version 1, torch 2.13.0", "How it was made", "Sparse twins"):
        assert text in html
    assert store.url not in html


def test_without_the_run_equal_zoos_give_equal_bytes_in_every_store(store: ObjectStore, tmp_path: Path) -> None:
    other = published(str(tmp_path / "other"))
    pages = []
    for number, one in enumerate((store, other)):
        out = tmp_path / str(number)
        assert main(["report", NAME, "--store", one.url, "--out", str(out), "--no-run"]) == 0
        pages.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert pages[0] == pages[1]
    assert b"How it was made" not in pages[0]["index.html"]


def test_figures_are_those_of_the_labels(store: ObjectStore) -> None:
    contents = read_contents(store, store.url, NAME)
    assert contents.population.models_N.tolist() == list(range(8))
    assert contents.population.final("test_acc")[[0, 7]].tolist() == pytest.approx([20 / 60, 27 / 60])
    assert (contents.population.faulty_epochs_N[3], contents.population.faulty_reasons_N[3]) == (1, "nan")
    assert contents.facts.num_cells == 256
    assert contents.twins is not None
    assert contents.twins.population.final("sparsity_ratio")[0] == pytest.approx(400 / 2416)
    assert contents.weight_map is not None
    assert contents.weight_map.points_NK2.shape == (8, 3, 2)


def test_results_by_class_are_those_of_the_labels(store: ObjectStore) -> None:
    assert read_contents(store, store.url, NAME).by_class is None  # its run has no counts by class
    example = open_store(str(ROOT / "storage/example"))
    by_class = read_contents(example, example.url, "digits-example").by_class
    assert by_class is not None and by_class.images_C.sum() == 270
    zoo = open_zoo(f"{example.url}/zoos/digits-example")
    counts = np.array(zoo.labels(epochs=-1)["test_class_correct"].to_pylist())
    assert np.array_equal(by_class.recall_NC, counts / by_class.images_C)
    assert by_class.predicted_C.sum() == pytest.approx(1)


def test_models_of_different_length_are_shown_together(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    run = MadeRun(store, parent(), (0, 4), 2)
    for epoch in range(3):
        run.commit((0, 2), epoch)
    run.commit((1, 3), 0)
    publish(store, parent())
    assert main(["report", NAME, "--store", store.url, "--out", str(tmp_path / "out")]) == 0


def test_a_version_can_be_named_and_a_missing_one_is_bad_input(
    store: ObjectStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert main(["report", NAME, "--store", store.url, "--version", "1", *out]) == 0
    assert main(["report", NAME, "--store", store.url, "--version", "9", *out]) == 2
    assert "no version 9" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["report", "fidelity", "benchmark"])
def test_a_file_in_the_way_is_bad_input(
    verb: str, store: ObjectStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("mine")
    assert main([verb, NAME, "--store", store.url, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is a file" in error
    assert (tmp_path / "out").read_text() == "mine"


def test_a_zoo_without_reference_figures_says_so_and_names_those_with(
    store: ObjectStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fidelity", NAME, "--store", store.url]) == 0
    shown = capsys.readouterr().out
    assert "no reference figures" in shown
    assert "mnist-cnn-s-seed-vd" in shown
    assert main(["fidelity", NAME, "--store", store.url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["comparisons"] == []


def test_epochs_that_are_not_published_have_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from zooforge.zoo_jobs.catalogue import entries

    zoo = entries.load("usps-cnn-s-hyp-random")
    store = open_store(str(tmp_path / "store"))
    whole_run(store, zoo, 4, 2)
    publish(store, zoo)
    out = tmp_path / "out"
    assert main(["fidelity", zoo.name, "--store", store.url, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "not a sample of the grid" in shown
    assert "epoch not here" in shown
    lines = json.loads((out / "fidelity.json").read_text())["comparisons"]
    assert {line["verdict"] for line in lines} == {"not a sample of the grid", "epoch not here"}
    assert all(line["found"] is None for line in lines if line["verdict"] == "epoch not here")
    page = (out / "fidelity.md").read_text()
    assert page.count("| test_acc |") == len(lines)
    assert "![usps-cnn-s-hyp-random and the reference's figures by epoch](fidelity.png)" in page
    assert (out / "fidelity.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    again = tmp_path / "again"
    assert main(["fidelity", zoo.name, "--store", store.url, "--out", str(again)]) == 0
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {p.name: p.read_bytes() for p in out.iterdir()}


@pytest.mark.s3
def test_an_s3_store_gives_what_a_folder_gives(
    store: ObjectStore, s3_store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    remote = published(s3_store_url)
    assert page(read_contents(remote, s3_store_url, NAME)) == page(read_contents(store, store.url, NAME))
    assert main(["status", NAME, "--store", s3_store_url, "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["state"], output["done"], output["version"]) == ("finished", 24, 1)


def test_the_benchmark_writes_what_it_prints(
    store: ObjectStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", NAME, "--store", store.url, "--out", str(tmp_path / "b"), "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output == json.loads((tmp_path / "b" / "benchmark.json").read_text())
    assert output["epochs"] == [0, 1, 2] and output["num_left_out"] == 2
    assert {score["features"] for score in output["scores"]} == {"statistics", "weights"}
    assert {"test_acc", "epoch"} <= {score["target"] for score in output["scores"]}
    assert main(["benchmark", NAME, "--store", store.url, "--out", str(tmp_path / "c"), "--epochs", "7"]) == 2
    assert not (tmp_path / "c").exists()


def test_the_plan_of_finished_work_adds_up_the_share_of_each_start(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    whole_run(store, parent())
    facts = read_facts(store, parent())

    def start(seconds: float, models: list[int], epochs: int, planned: float) -> DriverStart:
        plan = {"seconds": planned, "dollars": None}
        content = {"models": models, "epochs": epochs, "engine": "lanes", "plan": plan}
        return DriverStart(f"at {seconds}", seconds, seconds + 40, "stopped", content)

    starts = (
        start(100, [0, 4], 4, 100.0),  # 20 were missing, 10 done of them
        start(200, [0, 4], 4, 60.0),  # 10 were missing, all done
        start(300, [0, 8], 4, 80.0),  # extended: 20 are missing, 5 done
    )
    commits = ((110.0, 10), (210.0, 10), (310.0, 5))
    account = account_of(replace(facts, starts=starts, commits=commits))
    assert account.planned == {"wall_seconds": pytest.approx(100 / 2 + 60 + 80 / 4)}
    assert account.actual["wall_seconds"] == 120
    silent = replace(starts[1], content={**starts[1].content, "plan": None})
    assert "measured on" in account_of(replace(facts, starts=(starts[0], silent), commits=commits)).plan
