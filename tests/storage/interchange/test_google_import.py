"""Matrices of Google's Small CNN Zoo become zoos, and come back as the same files."""

import csv
import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.support.synthetic import RUN, description, train
from zooforge.storage.errors import FormatError
from zooforge.storage.interchange.copy_zoo import import_zoo
from zooforge.storage.interchange.google import export_google
from zooforge.storage.interchange.google_import import import_google
from zooforge.storage.interchange.hub_folder import prepare_hub
from zooforge.storage.interchange.zip import zip_zoo
from zooforge.storage.ops.pull import pull
from zooforge.storage.ops.verify import verify_zoo
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import Zoo, open_zoo
from zooforge.zoo_jobs.cli import main

STEPS = (0, 1, 20, 86)
TENSORS = [  # as in the published layout.csv: bias before kernel, Keras's names and axes
    ("sequential/conv2d/bias:0", (4,)),
    ("sequential/conv2d/kernel:0", (3, 3, 1, 4)),
    ("sequential/conv2d_1/bias:0", (4,)),
    ("sequential/conv2d_1/kernel:0", (3, 3, 4, 4)),
    ("sequential/dense/bias:0", (10,)),
    ("sequential/dense/kernel:0", (4, 10)),
]
HEAD = [
    "checkpoint", "test_accuracy", "test_loss", "train_accuracy", "train_loss", "config.activation", "config.b_init",
    "config.dataset", "config.dnn_architecture", "config.dropout", "config.epochs",
    "config.epochs_between_checkpoints", "config.init_std", "config.l2reg", "config.learning_rate", "config.num_layers",
    "config.num_units", "config.optimizer", "config.random_seed", "config.train_fraction", "config.w_init", "modeldir",
    "step",
]  # fmt: skip


def write_published(folder: Path, num_models: int = 6, initializers: tuple[str, ...] = ("glorot_normal",)) -> Path:
    """A small zoo as the published ones are: rows in no order, models apart, long folder names."""
    folder.mkdir()
    random = np.random.default_rng(0)
    states = [(model, step) for step in STEPS for model in range(num_models)]
    random.shuffle(states)
    start, lines = 0, []
    for name, shape in TENSORS:
        size = int(np.prod(shape))
        lines.append([name, start, start + size, size, str(shape)])
        start += size
    np.save(folder / "weights.npy", random.standard_normal((len(states), start)).astype(np.float32))
    with (folder / "layout.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["varname", "start_idx", "end_idx", "size", "shape"], *lines])
    text = io.StringIO()
    writer = csv.writer(text)  # lines end in CR LF, as Python's csv writes by default
    writer.writerow(HEAD)
    for model, step in states:
        place = f"/cns/{['xa', 'yb'][model % 2]}/{1000 - model}"
        writer.writerow([
            f"{place}/permanent_ckpt-{step}", f"{(100 * model + step) / 10_000:.6f}", 2.30258509, 0.0978, 2.25,
            ["relu", "tanh"][model % 2], "zeros", "cifar10", "cnn", 0.123456789, 18, "", 0.0625, "1.2345e-07",
            0.00173, 3, 16, "sgd", 40 + model, [0.1, 1.0][model % 2], initializers[model % len(initializers)], place,
            step,
        ])  # fmt: skip
    (folder / "metrics.csv.gz").write_bytes(gzip.compress(text.getvalue().encode()))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def opened(store: ObjectStore, name: str) -> Zoo:
    zoo = open_zoo(f"{store.url}/zoos/{name}")
    assert verify_zoo(zoo).problems == ()
    return zoo


def test_an_imported_zoo_is_exported_byte_for_byte_as_it_was(memory: ObjectStore, tmp_path: Path) -> None:
    published = write_published(tmp_path / "published")
    imported = import_google(published, memory, "small-cnn")
    export_google(opened(memory, "small-cnn"), tmp_path / "back")
    assert files(tmp_path / "back") == files(published)
    assert imported.findings.lines() == []
    export_google(opened(memory, "small-cnn"), tmp_path / "all", names="all")
    import_google(tmp_path / "all", memory, "small-cnn-all")
    export_google(opened(memory, "small-cnn-all"), tmp_path / "again", names="all")
    assert files(tmp_path / "again") == files(tmp_path / "all")
    published.rename(tmp_path / "first")  # the title of the zoo is the name of the folder
    assert not import_google((tmp_path / "back").rename(published), memory, "small-cnn").version.new


def test_every_copy_of_an_imported_zoo_is_exported_as_it_came(memory: ObjectStore, tmp_path: Path) -> None:
    published = write_published(tmp_path / "published")
    import_google(published, memory, "small-cnn")
    zoo = opened(memory, "small-cnn")
    pull(zoo, open_store(str(tmp_path / "pulled")))
    import_zoo(zoo, open_store(str(tmp_path / "copied")))
    prepare_hub(zoo, tmp_path / "hub")
    zip_zoo(zoo, tmp_path / "zoo.zip")
    with zipfile.ZipFile(tmp_path / "zoo.zip") as archive:
        archive.extractall(tmp_path / "unzipped")
    for name in ("pulled", "copied", "hub", "unzipped"):
        export_google(open_zoo(tmp_path / name / "zoos/small-cnn"), tmp_path / f"{name}-back")
        assert files(tmp_path / f"{name}-back") == files(published), name


def test_a_part_that_was_pulled_keeps_its_rows(memory: ObjectStore, tmp_path: Path) -> None:
    import_google(write_published(tmp_path / "published"), memory, "small-cnn")
    zoo = opened(memory, "small-cnn")
    pull(zoo, open_store(str(tmp_path / "part")), epochs=86)
    export_google(zoo, tmp_path / "whole", epochs=86)
    export_google(open_zoo(tmp_path / "part/zoos/small-cnn"), tmp_path / "back")
    assert files(tmp_path / "back") == files(tmp_path / "whole")


def test_states_and_labels_are_those_of_the_rows(memory: ObjectStore, tmp_path: Path) -> None:
    published = write_published(tmp_path / "published")
    import_google(published, memory, "small-cnn")
    zoo = opened(memory, "small-cnn")
    assert (zoo.manifest.dataset, zoo.epochs, len(zoo.models)) == ("cifar10", list(STEPS), 6)
    assert [entry.name for entry in zoo.layout.entries] == [
        "conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias", "linear1.weight", "linear1.bias"
    ]  # fmt: skip
    matrix = np.load(published / "weights.npy")
    with gzip.open(published / "metrics.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    order: dict[str, int] = {}
    labels = {(row["model"], row["epoch"]): row for row in zoo.labels().to_pylist()}
    for values, row in zip(matrix, rows, strict=True):
        model, step = order.setdefault(row["modeldir"], len(order)), int(row["step"])
        (vector,) = zoo.weights(models=model, epochs=step).values
        tensors = zoo.layout.unflatten(vector)
        assert np.array_equal(tensors["conv2.weight"], values[44:188].reshape(3, 3, 4, 4).transpose(3, 2, 0, 1))
        assert np.array_equal(tensors["linear1.weight"], values[198:238].reshape(4, 10).T)
        assert np.array_equal(tensors["linear1.bias"], values[188:198])
        label = labels[model, step]
        assert label["test_acc"] == float(row["test_accuracy"])
        assert label["train_loss"] == 2.25 and label["running_train_loss"] is None
        assert (label["seed"], label["weight_decay"]) == (int(row["config.random_seed"]), 1.2345e-07)
        assert (label["activation"], label["initializer"]) == (row["config.activation"], "glorot_normal")
        assert label["train_fraction"] == float(row["config.train_fraction"]) and "initial_std" not in label


def test_the_deviation_is_a_hyperparameter_where_keras_uses_it(memory: ObjectStore, tmp_path: Path) -> None:
    import_google(write_published(tmp_path / "fixed"), memory, "fixed")
    initializers = ("glorot_normal", "RandomNormal", "TruncatedNormal")
    import_google(write_published(tmp_path / "drawn", initializers=initializers), memory, "drawn")
    fixed, drawn = (opened(memory, name).labels(epochs=0).to_pylist() for name in ("fixed", "drawn"))
    assert [row["initial_std"] for row in drawn] == [
        1.0 if row["initializer"] == "glorot_normal" else 0.0625 for row in drawn
    ]
    assert len({row["row_digest"] for row in (*fixed, *drawn)}) == 12


def test_a_fraction_that_is_no_number_is_named(memory: ObjectStore, tmp_path: Path) -> None:
    published = write_published(tmp_path / "published")
    table = gzip.decompress((published / "metrics.csv.gz").read_bytes()).replace(
        b"1.0,glorot_normal", b"all,glorot_normal"
    )
    (published / "metrics.csv.gz").write_bytes(gzip.compress(table))
    said = "\n".join(import_google(published, memory, "small-cnn").findings.lines())
    assert "train_fraction is all, not a number: 1 stands for it" in said


def test_a_selection_of_an_imported_zoo_keeps_its_rows(memory: ObjectStore, tmp_path: Path) -> None:
    published = write_published(tmp_path / "published")
    import_google(published, memory, "small-cnn")
    export_google(opened(memory, "small-cnn"), tmp_path / "final", epochs=86, splits=True)
    with gzip.open(published / "metrics.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    with gzip.open(tmp_path / "final" / "metrics.csv.gz", "rt", newline="") as file:
        assert list(csv.DictReader(file)) == [row for row in rows if row["step"] == "86"]
    final = [number for number, row in enumerate(rows) if row["step"] == "86"]
    assert np.array_equal(np.load(tmp_path / "final" / "weights.npy"), np.load(published / "weights.npy")[final])
    order = [int(line) for line in (tmp_path / "final" / "splits.csv").read_text().split()]
    assert sorted(order) == list(range(6))


def test_an_export_of_ours_comes_back_with_its_states_metrics_and_splits(memory: ObjectStore, tmp_path: Path) -> None:
    train(memory, range(12), 3, faulty={4: 2})
    vectorize(memory, description(num_models=12, num_epochs=3), RUN)
    zoo = opened(memory, "tiny-zoo")
    export_google(zoo, tmp_path / "out")
    import_google(tmp_path / "out", memory, "again")
    again = opened(memory, "again")
    assert np.array_equal(again.weights().values, zoo.weights().values, equal_nan=True)
    columns = [
        "model",
        "epoch",
        "split",
        "seed",
        "activation",
        "dropout_ratio",
        "test_acc",
        "test_loss",
        "faulty_epoch",
    ]
    assert again.labels(columns=columns).equals(zoo.labels(columns=columns))
    export_google(again, tmp_path / "back")
    assert files(tmp_path / "back") == files(tmp_path / "out")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"weights.npy": b"no"}, "not readable as an array"),
        ({"layout.csv": b'varname,start_idx,end_idx,size,shape\nx/kernel:0,0,9,9,"(2, 3)"\n'}, "has shape"),
        ({"layout.csv": b'varname,start_idx,end_idx,size,shape\nx/kernel:0,0,6,6,"(2, 3)"\n'}, "expected float32"),
        ({"layout.csv": b'varname,start_idx,end_idx,size,shape\nx/bias:0,0,6,6,"(6,)"\n'}, "no kernel"),
        (
            {"layout.csv": b'varname,start_idx,end_idx,size,shape\nx/kernel:0,0,9000000000,1,"(3, 3000000000)"\n'},
            "limit",
        ),
        ({"metrics.csv.gz": gzip.compress(b"a\n" * 17_000_000)}, "elements, the limit"),
        ({"layout.csv": b'varname,start_idx,end_idx,size,shape\n"x\n/kernel:0",0,9,9,"(2, 3)"\n'}, "has shape"),
        ({"metrics.csv.gz": b"no"}, "tables are not readable"),
        ({"metrics.csv.gz": gzip.compress(b"a,b\n1,2\n")}, "tables are not readable"),
        ({"metrics.csv.gz": gzip.compress(b"modeldir,step\na,1\na,1\n")}, "2 rows of model 0 at epoch 1"),
        ({"metrics.csv.gz": gzip.compress(b"modeldir,step\na,-1\n")}, "at epoch -1"),
        ({"metrics.csv.gz": gzip.compress(b"modeldir,step\n")}, "no row"),
    ],
)
def test_damaged_files_are_refused_in_one_line(
    memory: ObjectStore, tmp_path: Path, damage: dict[str, bytes], message: str
) -> None:
    published = write_published(tmp_path / "published")
    for name, content in damage.items():
        (published / name).write_bytes(content)
    with pytest.raises(FormatError, match=message) as error:
        import_google(published, memory, "small-cnn")
    assert "\n" not in str(error.value)
    assert list(memory.list("")) == []


def test_the_command_imports_or_refuses(
    memory: ObjectStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = write_published(tmp_path / "published")
    arguments = ["--name", "small-cnn", "--store", memory.url]
    assert main(["store", "import-google", str(published), *arguments]) == 0
    assert "6 models, 86 epochs, 24 states" in capsys.readouterr().out
    (published / "layout.csv").unlink()
    assert main(["store", "import-google", str(published), *arguments]) == 2
    assert "expected weights.npy and metrics.csv.gz or all_weights.npy" in capsys.readouterr().err
