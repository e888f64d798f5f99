"""Bad input: one line on stderr that says what to do, exit status 2, nothing written."""

import contextlib
import gzip
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.acceptance_specs import MODELS, write
from tests.support.command import Command, Ended, content, num_records, refused
from zooforge.storage.stores.open import open_store
from zooforge.zoo_jobs.cli import main

Typed = Callable[..., Ended]


@pytest.fixture
def nowhere(tmp_path: Path) -> Iterator[Path]:
    """A store that does not exist, and must not exist after the test."""
    yield tmp_path / "nowhere"
    assert not (tmp_path / "nowhere").exists()


@pytest.fixture
def typed(zoo: Command, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Typed:
    """Runs `zoo ...` in this process, since starting a process for each mistake would take minutes."""
    for name in set(os.environ) - set(zoo.environment):
        monkeypatch.delenv(name)
    for name, value in zoo.environment.items():
        monkeypatch.setenv(name, value)

    def typed(*arguments: str | Path) -> Ended:
        started = time.monotonic()
        status = main([*map(str, arguments)])
        out, err = capfd.readouterr()
        return Ended(status, out, err, time.monotonic() - started)

    return typed


def one_line(zoo: Command, *arguments: str | Path, said: tuple[str, ...], **environment: str) -> str:
    return refused(zoo(*arguments, **environment), *said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("run", ("NAME", "zoo run --help")),
        ("train mnist5k-cnn-z", ("unknown zoo 'mnist5k-cnn-z'", "did you mean 'mnist5k-cnn-s'?")),
        ("run nothing.yaml", ("nothing.yaml: No such file", "zoo list")),
        ("run mnist5k-cnn-s --models 90:10", ("--models 90:10 is empty", "0:2560")),
        ("run mnist5k-cnn-s --models 0:9999", ("--models 0:9999 goes beyond", "0:2560")),
        ("run mnist5k-cnn-s --models some", ("--models 'some' is not a half-open range",)),
        ("run mnist5k-cnn-s --models -3:4", ("--models",)),
        ("run mnist5k-cnn-s --epochs -1", ("--epochs -1",)),
        ("run mnist5k-cnn-s --epochs two", ("'two' is not a valid integer", "zoo run --help")),
        ("run mnist5k-cnn-s --epoch 2", ("No such option", "--epochs")),
        ("run mnist5k-cnn-s --slots 0", ("--slots", "x>=1")),
        ("run mnist5k-cnn-s --set learning_rate=0.1", ("name it", "--name")),
        ("run mnist5k-cnn-s --name other", ("--name other", "--set")),
        ("run mnist5k-cnn-s --set learning_rat=0.1 --name other", ("unknown field 'learning_rat'", "learning_rate")),
        ("run mnist5k-cnn-s --set learning_rate --name other", ("--set 'learning_rate' is not of the form key=value",)),
        ("run mnist5k-cnn-s --engine lane", ("unknown engine 'lane'", "did you mean 'lanes'?")),
        ("run mnist5k-cnn-s --engine sequentiell", ("unknown engine", "did you mean 'sequential'?")),
        ("run cifar10-resnet18-seed --engine lanes", ("engine lanes cannot run this zoo",)),
        ("run mnist5k-cnn-s --ray 127.0.0.1:1 --models 0:1", ("no Ray cluster at 127.0.0.1:1", "--ray local")),
        ("run mnist5k-cnn-s --no-metrics --metrics-port 9999", ("--metrics-port 9999 and --no-metrics",)),
        ("run mnist5k-cnn-s --no-twins --twin-epochs 3", ("--twin-epochs 3 and --no-twins",)),
        ("run mnist5k-cnn-s --max-dollars 3", ("--max-dollars needs the price", "--dollars-per-hour")),
        ("train mnist5k-cnn-s-vd", ("are the twins of mnist5k-cnn-s", "zoo sparsify mnist5k-cnn-s")),
        ("sparsify mnist5k-cnn-s", ("has epoch 50 yet", "zoo train mnist5k-cnn-s --models 0:2560 --epochs 50")),
        ("sparsify mnist5k-cnn-s --models 0:8 --epochs 3", ("--models 0:8 --epochs 3` comes first",)),
        ("sparsify mnist5k-cnn-s --sparsity 50", ("--sparsity PERCENT belongs to --method magnitude",)),
        ("sparsify mnist5k-cnn-s --method magnitude", ("--sparsity PERCENT belongs to --method magnitude",)),
        ("sparsify mnist5k-cnn-s --method magnitude --sparsity 100", ("--sparsity", "1<=x<=99")),
        ("sparsify mnist5k-cnn-s --method prune", ("'prune'", "variational-dropout", "magnitude")),
        ("sparsify mnist5k-cnn-s-vd --epochs 3", ("are twins already",)),
        ("sparsify cifar10-resnet18-seed", ("twins are made of CNNs",)),
        ("vectorize mnist5k-cnn-s", ("there is no store here", "nowhere")),
        ("verify mnist5k-cnn-s", ("there is no store here", "nowhere")),
        ("report mnist5k-cnn-s --out report", ("there is no store here", "nowhere")),
        ("status mnist5k-cnn-z", ("there is no store here", "nowhere")),
        ("status all", ("there is no store here", "nowhere")),
        ("store verify mnist5k-cnn-s", ("there is no store here", "nowhere")),
        ("store sl", ("sl",)),
    ],
)
def test_an_invalid_command_gives_one_line_and_exit_status_2(
    typed: Typed, nowhere: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, said: tuple[str, ...]
) -> None:
    monkeypatch.setenv("ZOO_STORE", str(nowhere))
    refused(typed(*arguments.split()), *said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("trian small", ("unknown verb 'trian'", "did you mean `zoo train`?")),
        ("run mnist5k-cnn-z", ("unknown zoo 'mnist5k-cnn-z'", "did you mean 'mnist5k-cnn-s'?")),
        ("run mnist5k-cnn-s --models 90:10", ("--models 90:10 is empty", "0:2560")),
        ("sparsify mnist5k-cnn-s --models 0:8 --epochs 3", ("--models 0:8 --epochs 3` comes first",)),
    ],
)
def test_an_invalid_command_ends_a_real_process_with_one_line(
    zoo: Command, nowhere: Path, arguments: str, said: tuple[str, ...]
) -> None:
    one_line(zoo, *arguments.split(), said=said, ZOO_STORE=str(nowhere))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"num_epoch": 3}, ("unknown field 'num_epoch'", "did you mean 'num_epochs'?")),
        ({"batch_size": "ten"}, ("batch_size is 'ten'", "integer")),
        ({"batch_size": 0}, ("batch_size is 0", "greater than 0")),
        ({"batch_size": 1000}, ("batch_size 1000 is larger than the 200 training images",)),
        ({"dataset": "mnist5"}, ("dataset is 'mnist5'", "did you mean 'mnist5k'?")),
        ({"split": {"train": 9000, "val": 0, "test": 10, "seed": 1}}, ("9010 images wanted", "5000")),
        ({"momentum": 1.5}, ("momentum is 1.5", "less than 1")),
        ({"name": "Not A Name"}, ("name is 'Not A Name'",)),
        ({"sparsify": {"method": "magnitude"}}, ("sparsity_ratio",)),
        ({"axes": None, "seeds": None}, ("axes and seeds are required, e.g. axes: {", 'seeds: "1:11"')),
    ],
)
def test_an_invalid_spec_gives_one_line_that_names_the_field(
    typed: Typed, nowhere: Path, tmp_path: Path, fields: dict[str, Any], said: tuple[str, ...]
) -> None:
    path = write(tmp_path / "spec", **fields)
    assert str(path) in refused(typed("run", path, "--store", nowhere), *said)


def test_an_invalid_spec_ends_a_real_process_with_one_line(zoo: Command, nowhere: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "spec", num_epoch=3)
    one_line(zoo, "run", path, "--store", nowhere, said=("unknown field 'num_epoch'", "did you mean 'num_epochs'?"))


def test_a_number_of_epochs_that_is_no_multiple_of_commit_every_is_refused(
    typed: Typed, nowhere: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "spec", commit_every=2)
    refused(typed("train", path, "--epochs", "3", "--store", nowhere), "--epochs 3", "multiple", "2")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/store", ("ftp:// is no store", "s3://bucket/prefix")),
        ("s3://", ("expected s3://bucket/prefix",)),
        ("s3://name:secret@bucket/x", ("must not hold credentials",)),
        ("s3:/bucket/x", ("did you mean s3://bucket/x?",)),
        ("file://other-host/store", ("expected file:///absolute/path",)),
        ("", ("give --store, or set ZOO_STORE",)),
    ],
)
def test_a_store_url_that_no_backend_understands_is_refused(typed: Typed, url: str, said: tuple[str, ...]) -> None:
    assert "name:secret" not in refused(typed("run", "mnist5k-cnn-s", "--store", url), *said)


def test_a_missing_store_option_is_asked_for(typed: Typed) -> None:
    refused(typed("run", "mnist5k-cnn-s"), "give --store, or set ZOO_STORE")


@pytest.mark.s3
@pytest.mark.parametrize("verb", ["run", "status", "vectorize"])
def test_a_missing_bucket_is_named(s3_zoo: Command, verb: str) -> None:
    url = "s3://no-such-bucket/zoos"
    one_line(s3_zoo, verb, "mnist5k-cnn-s", "--store", url, said=("there is no bucket 'no-such-bucket'",))


@pytest.mark.s3
@pytest.mark.parametrize(
    "wrong", [{"AWS_SECRET_ACCESS_KEY": "planted-secret-key"}, {"AWS_ACCESS_KEY_ID": "planted-access-key"}]
)
def test_wrong_credentials_are_refused_and_not_shown(s3_zoo: Command, s3_store_url: str, wrong: dict[str, str]) -> None:
    command = s3_zoo.with_environment(**wrong)
    command.secrets.extend(wrong.values())
    one_line(command, "run", "mnist5k-cnn-s", "--store", s3_store_url, said=("credentials were refused",))
    assert content(s3_store_url) == {}


@pytest.mark.s3
def test_missing_credentials_are_asked_for(zoo: Command, s3_zoo: Command, s3_store_url: str) -> None:
    endpoint = s3_zoo.environment["AWS_ENDPOINT_URL"]
    said = ("no credentials found", "AWS_ACCESS_KEY_ID", "AWS_PROFILE")
    one_line(zoo, "run", "mnist5k-cnn-s", "--store", s3_store_url, said=said, AWS_ENDPOINT_URL=endpoint)


@pytest.mark.s3
def test_bad_input_leaves_a_real_bucket_as_it_was(s3_zoo: Command, s3_store_url: str, tmp_path: Path) -> None:
    path = write(tmp_path, momentum=2.0)
    one_line(s3_zoo, "run", path, "--store", s3_store_url, said=("momentum is 2.0",))
    said = ("comes first",)
    one_line(s3_zoo, "sparsify", "mnist5k-cnn-s", "--models", "0:8", "--store", s3_store_url, said=said)
    assert list(open_store(s3_store_url).list("")) == []


@pytest.mark.parametrize("silent", [False, True], ids=["closed", "silent"])
def test_an_endpoint_that_does_not_answer_is_named_after_few_attempts(zoo: Command, silent: bool) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if silent:
            server.listen()  # the kernel accepts connections, and nothing answers
        command = zoo.with_environment(
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{server.getsockname()[1]}",
            AWS_ACCESS_KEY_ID="planted-access-key",
            AWS_SECRET_ACCESS_KEY="planted-secret-key",
        )
        command.secrets.extend(["planted-access-key", "planted-secret-key"])
        one_line(
            command, "run", "mnist5k-cnn-s", "--store", "s3://bucket/x",
            said=("no answer at http://127.0.0.1:", "AWS_ENDPOINT_URL"),
        )  # fmt: skip
        assert num_waiting(server) <= 2 if silent else True


def num_waiting(server: socket.socket) -> int:
    """Number of connections that were made to ``server`` and not accepted yet."""
    server.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            count += 1
    return count


def test_missing_data_are_asked_for(zoo: Command, nowhere: Path, tmp_path: Path) -> None:
    said = ("mnist", "is missing", "`zoo data fetch mnist` gets it")
    arguments = ("train", "mnist-cnn-s-seed", "--models", "0:8", "--store", nowhere)
    one_line(zoo, *arguments, said=said, ZOO_CACHE=str(tmp_path / "empty"))


def test_a_data_file_with_another_sha_256_is_refused(zoo: Command, nowhere: Path, tmp_path: Path) -> None:
    files = tmp_path / "cache" / "datasets" / "mnist"
    files.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (files / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(b"not what it says"))
    said = ("train-images-idx3-ubyte.gz has SHA-256", "the registry says", "`zoo data fetch mnist`")
    arguments = ("train", "mnist-cnn-s-seed", "--models", "0:8", "--store", nowhere)
    one_line(zoo, *arguments, said=said, ZOO_CACHE=str(tmp_path / "cache"))


def test_a_metrics_port_that_is_taken_is_refused(zoo: Command, nowhere: Path, spec: Path, taken_port: int) -> None:
    arguments = ("train", spec, "--models", "0:4", "--store", nowhere, "--metrics-port", str(taken_port))
    one_line(zoo, *arguments, said=(f"metrics port {taken_port}", "Address already in use"))


def test_a_file_in_the_place_of_a_store_is_refused(zoo: Command, spec: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a store")
    one_line(
        zoo, "train", spec, "--models", "0:4", "--store", tmp_path / "file", said=("file", "a store is a directory")
    )
    assert (tmp_path / "file").read_text() == "not a store"


@pytest.mark.parametrize("variable", ["ZOO_CACHE", "XDG_STATE_HOME"])
def test_a_folder_that_cannot_be_made_is_named_before_anything_is_written(
    zoo: Command, nowhere: Path, spec: Path, tmp_path: Path, variable: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    folder = str(tmp_path / "file" / "folder")
    ended = zoo("train", spec, "--models", "0:4", "--store", nowhere, **{variable: folder})
    assert (ended.status, ended.out) == (2, "")
    assert len(ended.err.splitlines()) == 1
    assert folder in ended.err and "Not a directory" in ended.err


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_not_stop_a_command(zoo: Command, spec: Path, tmp_path: Path, closed: str) -> None:
    shell = zoo.after("sh", "-c", f'exec "$0" "$@" {closed}')
    options = ["--models", "0:2", "--epochs", "1", "--ray", "none", "--no-metrics"]
    assert shell("train", spec, *options, "--store", tmp_path / "store").status == 0
    assert num_records(tmp_path / "store") > 0


def test_a_read_only_store_is_refused(zoo: Command, spec: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    store.chmod(0o555)
    command = zoo
    if os.geteuid() == 0:  # root may write everywhere, unless it leaves that right behind
        if shutil.which("setpriv") is None:
            pytest.skip("root writes everywhere, and setpriv is not installed")
        command = zoo.after("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all")
    arguments = ("train", spec, "--models", "0:4", "--store", store)
    one_line(command, *arguments, said=("may not write", "check the directory's owner and mode"))
    assert content(store) == {}


@pytest.mark.ray
class TestWithAnExistingRun:
    """Bad input for a store that holds a zoo. The store must not change."""

    @pytest.fixture(autouse=True)
    def unchanged(self, quiet: Path) -> Iterator[None]:
        before = content(quiet)
        yield
        assert content(quiet) == before

    def test_an_edit_that_would_change_rows_is_refused(self, zoo: Command, quiet: Path, tmp_path: Path) -> None:
        axes = {"learning_rate": [0.002, 0.0001]}
        path = write(tmp_path, **{"axes": self.axes(axes)})
        said = ("small: model 0 would be learning_rate 0.002 instead of 0.001", "`extend:`", "another name")
        for verb in ("train", "run"):
            one_line(zoo, verb, path, "--models", "0:4", "--store", quiet, said=said)

    def test_an_edit_that_would_change_numbers_is_refused(self, typed: Typed, quiet: Path, tmp_path: Path) -> None:
        path = write(tmp_path, batch_size=20)
        said = ("small: batch_size changed", "another name", "--new-lineage")
        refused(typed("train", path, "--models", "0:4", "--store", quiet), *said)

    def test_another_engine_is_refused(self, typed: Typed, quiet: Path, spec: Path) -> None:
        said = ("was started with other settings", "engine", "--mix-engines")
        arguments = ("train", spec, "--models", "0:4", "--epochs", "8", "--store", quiet, "--engine")
        refused(typed(*arguments, "sequential"), *said)

    def test_commits_at_other_epochs_are_refused(self, typed: Typed, quiet: Path, tmp_path: Path) -> None:
        path = write(tmp_path, commit_every=3)
        arguments = ("train", path, "--models", MODELS, "--epochs", "9", "--store", quiet)
        refused(typed(*arguments), "commit_every is 3, but its run began with 1", "commit_every: 1")

    def test_every_reader_says_that_the_zoo_is_not_published(self, typed: Typed, quiet: Path, tmp_path: Path) -> None:
        for arguments in (
            ("verify", "mnist5k-cnn-s"),
            ("report", "mnist5k-cnn-s", "--out", tmp_path / "out"),
            ("fidelity", "mnist5k-cnn-s"),
        ):
            refused(typed(*arguments, "--store", quiet), "mnist5k-cnn-s")
        refused(typed("verify", "smal", "--store", quiet), "unknown zoo 'smal'", "'small'")
        assert not (tmp_path / "out").exists()

    @staticmethod
    def axes(changed: dict[str, Any]) -> dict[str, Any]:
        import yaml

        from zooforge.zoo_jobs.catalogue.entries import FOLDER

        axes: dict[str, Any] = yaml.safe_load((FOLDER / "mnist5k-cnn-s.yaml").read_text())["axes"]
        return axes | {"weight_decay": [0.001, 0.0001]} | changed
