"""Code as the network of a spec: the example of docs/how-to/own-network.md, and what it takes to run it."""

import shutil
from pathlib import Path

import pytest
import torch

import zooforge
from tests.support.page_blocks import blocks
from zooforge.storage.errors import StorageUsageError
from zooforge.storage.stores.open import open_store
from zooforge.zoo_jobs.catalogue.entries import load_file
from zooforge.zoo_jobs.catalogue.in_store import stored
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.spec.zoo import ZooSpec

QUIET = ["--ray", "none", "--no-metrics", "--quiet", "--slots", "1"]
EXAMPLE = {block.language: block.code for block in blocks(Path("docs/how-to/own-network.md")) if block.is_file}


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "net.py").write_text(EXAMPLE["python"])
    (folder / "my-code.yaml").write_text(EXAMPLE["yaml"])
    return folder / "my-code.yaml"


def test_the_example_is_grown_and_goes_on_from_its_store_alone(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "store")
    assert main(["train", str(spec), "--epochs", "1", "--allow-code", "--store", store, *QUIET]) == 0
    zoo = stored(open_store(store), "my-code")
    assert isinstance(zoo, ZooSpec)
    assert zoo == load_file(spec, allow_code=True)
    run = tmp_path / "store" / "runs" / zoo.run_id
    assert (run / "code.py").read_text() == EXAMPLE["python"]
    shutil.rmtree(spec.parent)
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*.json")}
    for verb in ("train", "run", "verify"):
        capsys.readouterr()
        assert main([verb, "my-code", "--store", store, *(QUIET if verb != "verify" else [])]) == 2
        told = capsys.readouterr().err
        assert "my-code: its network is code, class Net" in told
        assert "only with --allow-code" in told
        assert told.count("\n") == 1
    assert {path: path.read_bytes() for path in (tmp_path / "store").rglob("*.json")} == before
    assert main(["run", "my-code", "--allow-code", "--store", store, *QUIET]) == 0
    assert main(["status", "my-code", "--store", store]) == 0
    capsys.readouterr()
    assert main(["verify", "my-code", "--deep", "--allow-code", "--store", store]) == 0
    assert "equal" in capsys.readouterr().out

    published = zooforge.open_zoo(f"{store}/zoos/my-code")
    assert published.architecture["name"] == zoo.architecture_name
    assert not published.manifest.symmetries
    with pytest.raises(StorageUsageError, match=rf"are code, which readers never run.*runs/{zoo.run_id}/code\.py"):
        published.module(0)
    names: dict[str, type[torch.nn.Module]] = {}
    exec(EXAMPLE["python"], names)
    names["Net"](1, 8, 10).load_state_dict(published.state_dict(0, -1, torch=True), strict=True)


def test_code_is_run_only_where_that_is_allowed(spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (spec.parent / "net.py").read_text()
    (spec.parent / "net.py").write_text(f"import os\n\nos.mkdir({str(tmp_path / 'ran')!r})\n{text}")
    store = str(tmp_path / "store")
    for arguments in (
        ["plan", str(spec)],
        ["show", str(spec)],
        ["train", str(spec), "--store", store, *QUIET],
        ["run", str(spec), "--store", store, *QUIET],
        ["slurm", str(spec), "--store", store],
    ):
        assert main(arguments) == 2
        told = capsys.readouterr().err
        assert "architecture.file: ./net.py is code, which is run only with --allow-code" in told
        assert told.count("\n") == 1
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "store").exists()
    assert main(["plan", str(spec), "--allow-code"]) == 0
    assert (tmp_path / "ran").exists()


def test_a_spec_that_holds_the_code_needs_no_file_and_has_the_same_run(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(spec), "--yaml", "--allow-code"]) == 0
    whole = tmp_path / "whole.yaml"
    whole.write_text(capsys.readouterr().out)
    assert str(tmp_path) not in whole.read_text()
    assert load_file(whole).run_id == load_file(spec, allow_code=True).run_id
    (spec.parent / "net.py").write_text(EXAMPLE["python"] + "# changed\n")
    assert load_file(whole).run_id != load_file(spec, allow_code=True).run_id
    assert main(["plan", str(whole)]) == 0
    capsys.readouterr()
    store = str(tmp_path / "store")
    whole.write_text(whole.read_text().replace("out.bias", "out.bigs"))
    assert main(["train", str(whole), "--allow-code", "--store", store, *QUIET]) == 2
    assert "its tensors are not those that the spec says" in capsys.readouterr().err
    assert not (tmp_path / "store" / "zoos").exists()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("./net.py", "./no.py", "my-code.yaml: architecture.file: ./no.py: No such file or directory"),
        ("class: Net", "class: Nett", "architecture.file: ./net.py: no class 'Nett'; did you mean 'Net'? it has Net"),
        ("class: Net", "clas: Net", "architecture: unknown field 'clas'; did you mean 'class'? accepted: file, class"),
        ("class: Net", "class: a.b", "architecture: class is 'a.b'"),
        ("dataset: digits8", "dataset: digits9", "did you mean 'digits8'?"),
        ("axes: {", "axes: {activation: [relu], ", "axes.activation: no layer of the architecture uses it"),
        ("num_epochs: 2", "num_epochs: 2\nprecision: bf16", "precision: code-"),
        ("num_epochs: 2", "num_epochs: 2\nsparsify: {method: magnitude, sparsity_ratio: 0.5}",
         "sparsify: twins are made of CNNs; code-"),
        ("batch_size: 20", "batch_size: many", "batch_size is 'many'"),
    ],
)  # fmt: skip
def test_an_invalid_spec_gives_one_line_and_nothing_is_written(
    before: str, after: str, message: str, spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec.write_text(EXAMPLE["yaml"].replace(before, after, 1))
    assert main(["run", str(spec), "--allow-code", "--store", str(tmp_path / "store"), *QUIET]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_other_images_need_the_code_again(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(spec), "--allow-code", "--set", "preprocessing.resize=6", "--name", "smaller"]) == 2
    assert "are of 1 x 8 x 8 images and 10 classes, here are 1 x 6 x 6 and 10" in capsys.readouterr().err


def test_twins_searches_and_the_references_formats_refuse_code_by_name(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "store")
    assert main(["run", str(spec), "--models", "0:1", "--epochs", "0", "--allow-code", "--store", store, *QUIET]) == 0
    capsys.readouterr()
    assert main(["show", str(spec), "--yaml", "--allow-code"]) == 0
    (tmp_path / "whole.yaml").write_text(capsys.readouterr().out)
    (tmp_path / "tune.yaml").write_text(
        f"name: tuned\nzoo: {tmp_path / 'whole.yaml'}\nranges: {{learning_rate: {{low: 1e-4, high: 1, scale: log}}}}\n"
        "num_trials: 2\nnum_epochs: 1\n"
    )
    for arguments in (
        ["sparsify", "my-code", "--method", "magnitude", "--sparsity", "50", "--store", store, *QUIET],
        ["store", "export-raw", f"{store}/zoos/my-code", str(tmp_path / "raw")],
        ["fidelity", "my-code", "--store", store],
        ["tune", str(tmp_path / "tune.yaml"), "--dry-run"],
    ):
        capsys.readouterr()
        assert main(arguments) == 2, arguments
        told = capsys.readouterr().err
        assert "code" in told
        assert told.count("\n") == 1
