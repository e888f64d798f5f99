"""Families: zoos whose models begin with the published weights of others, over three levels."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zooforge
from zooforge.storage.formats.splits import SplitRule, assign_splits
from zooforge.storage.ops.verify import verify_zoo
from zooforge.storage.zoo import Zoo as PublishedZoo
from zooforge.zoo_jobs.catalogue.entries import load_file
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.spec.grid import root_models, rows
from zooforge.zoo_jobs.spec.zoo import ZooSpec

QUIET = ["--ray", "none", "--no-metrics", "--quiet", "--slots", "1", "--engine", "sequential"]
SPEC = """
name: {name}
description: "A member of a family."
source: "a test"
origin: ours
dataset: digits8
preprocessing: {{mean: [0.3], std: [0.4]}}
split: {{train: 60, val: 20, test: 40, seed: 42}}
architecture: {{layers: [{{conv: {{channels: {channels}, kernel: 3}}}}, {{activation: tanh}}, {{avg_pool: global}},
  {{linear: {{features: 4}}}}, {{linear: {{features: classes}}}}]}}
axes: {{initializer: [{initializer}], optimizer: [adam], learning_rate: {rates}, weight_decay: [0.0]}}
seeds: "{seeds}"
batch_size: 20
num_epochs: 2
{more}
"""
DEFAULTS = {"channels": 3, "initializer": "normal", "rates": "[0.01]", "seeds": "1:2", "more": ""}
KEEP = "start: {zoo: ./root.yaml, epoch: 2, models: '0:4', head: keep}"


def written(folder: Path, name: str, **values: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(SPEC.format(name=name, **(DEFAULTS | values)))
    return path


def child_of(zoo: str, epoch: int = 2, models: str = "0:4", head: str = "keep") -> str:
    return f"start: {{zoo: ./{zoo}.yaml, epoch: {epoch}, models: '{models}', head: {head}}}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written(tmp_path, "root", seeds="1:5")
    written(tmp_path, "child", rates="[0.003, 0.001]", seeds="7:8", more=child_of("root"))
    written(tmp_path, "head", seeds="7:9", more=child_of("root", 1, head="new"))
    written(tmp_path, "grandchild", rates="[0.001]", seeds="9:11", more=child_of("child", 1, "2:6"))
    return tmp_path


def run(folder: Path, name: str, *options: str, status: int = 0) -> None:
    arguments = ["run", str(folder / f"{name}.yaml"), "--store", str(folder / "store"), *QUIET, *options]
    assert main(arguments) == status


def opened(folder: Path, name: str) -> PublishedZoo:
    return zooforge.open_zoo(f"{folder}/store/zoos/{name}")


def test_three_levels_begin_with_the_weights_of_their_parents_and_keep_the_splits_of_their_root(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("root", "child", "head", "grandchild"):
        run(folder, name)
    root, child, head, grandchild = (opened(folder, name) for name in ("root", "child", "head", "grandchild"))
    for zoo, parent, epoch in ((child, root, 2), (grandchild, child, 1)):
        table = zoo.model_table().to_pylist()
        for row in table:
            first = zoo.weights(models=row["model"], epochs=0).values
            assert np.array_equal(first, parent.weights(models=row["parent_model"], epochs=epoch).values)
            assert (row["parent_zoo"], row["parent_epoch"]) == (parent.name, epoch)
        assert not np.array_equal(zoo.weights(epochs=0).values, zoo.weights(epochs=2).values)
    assert [row["parent_model"] for row in child.model_table().to_pylist()] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(set(child.model_table()["row_digest"].to_pylist())) == 8

    heads = head.weights(epochs=0).unflatten()
    theirs = root.weights(models=[0, 0, 1, 1, 2, 2, 3, 3], epochs=1).unflatten()
    for tensor, values in heads.items():
        assert np.array_equal(values, theirs[tensor]) == (not tensor.startswith("linear2")), tensor
    assert np.array_equal(heads["linear2.weight"][0], heads["linear2.weight"][2])  # of one seed
    assert not np.array_equal(heads["linear2.weight"][0], heads["linear2.weight"][1])

    spec = load_file(folder / "grandchild.yaml")
    roots = root_models(spec)
    assert roots == (1, 1, 1, 1, 2, 2, 2, 2)
    expected = assign_splits(SplitRule(), "root", roots, {}, 4)
    assert grandchild.model_table()["split"].to_pylist() == expected
    for zoo in (root, child, head, grandchild):
        assert zoo.manifest.root_zoo == "root"
        assert verify_zoo(zoo).ok
    capsys.readouterr()
    for name in ("child", "head"):
        assert main(["verify", str(folder / f"{name}.yaml"), "--deep", "--store", str(folder / "store")]) == 0
        assert "differs" not in capsys.readouterr().out


def test_optimizers_begin_anew_and_chunks_change_no_bit(folder: Path) -> None:
    run(folder, "root")
    copied = folder / "again"
    shutil.copytree(folder, copied)
    run(folder, "child")
    run(copied, "child", "--chunk-models", "1", "--epochs", "1")
    run(copied, "child", "--chunk-models", "3")
    one, other = (opened(place, "child") for place in (folder, copied))
    assert one.manifest.run == other.manifest.run
    assert one.weights().values.tobytes() == other.weights().values.tobytes()


def test_more_parents_append_and_the_run_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, "root", "--models", "0:2")
    capsys.readouterr()
    run(folder, "child", status=2)
    told = capsys.readouterr().err
    assert "root in file://" in told
    assert "has no published weights of models 2, 3 after epoch 2" in told
    assert told.count("\n") == 1
    path = written(folder, "child", rates="[0.003, 0.001]", seeds="7:8", more=child_of("root", models="0:2"))
    before = load_file(path)
    run(folder, "child")
    few = opened(folder, "child").weights().values
    run(folder, "root")
    path = written(folder, "child", rates="[0.003, 0.001]", seeds="7:8", more=child_of("root"))
    after = load_file(path)
    assert after.run_id == before.run_id
    assert rows(after)[: len(rows(before))] == rows(before)
    run(folder, "child")
    many = opened(folder, "child")
    assert many.manifest.num_models == 8
    assert np.array_equal(many.weights(models=[0, 1, 2, 3]).values, few)
    pin = json.loads((folder / "store" / "runs" / after.run_id / "pin.json").read_text())
    assert pin["parent"]["version"] == 1


def test_a_run_id_depends_on_the_parents_run_epoch_and_head_alone(folder: Path) -> None:
    def changed(**values: Any) -> ZooSpec:
        return load_file(written(folder, "child", rates="[0.003, 0.001]", seeds="7:8", **values))

    first = changed(more=child_of("root"))
    assert first.run_content["start"]["run"] == load_file(folder / "root.yaml").run_id
    assert changed(more=child_of("root", models="0:2")).run_id == first.run_id
    assert first.run_id != changed(more=child_of("root", epoch=1)).run_id
    assert first.run_id != changed(more=child_of("root", head="new")).run_id
    digests = {row.digest for more in (child_of("root"), child_of("root", 1)) for row in rows(changed(more=more))}
    assert len(digests) == 16
    assert ZooSpec.from_json(first.to_json()) == first
    written(folder, "root", seeds="1:5", rates="[0.02]")
    assert first.run_id != changed(more=child_of("root")).run_id


def test_parents_that_were_made_again_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, "root")
    run(folder, "child", "--models", "0:2")
    version = folder / "store" / "zoos" / "root" / "versions" / "0001" / "manifest.json"
    pin = folder / "store" / "runs" / load_file(folder / "child.yaml").run_id / "pin.json"
    pinned = json.loads(pin.read_text())
    pin.write_text(json.dumps(pinned | {"parent": pinned["parent"] | {"manifest": "0" * 64}}))
    capsys.readouterr()
    run(folder, "child", status=2)
    told = capsys.readouterr().err
    assert "its parents were made again" in told
    assert told.count("\n") == 1
    assert version.is_file()


def test_children_of_a_faulty_parent_are_faulty_from_the_start(folder: Path) -> None:
    written(folder, "root", rates="[0.01, 1e30]", seeds="1:3")
    run(folder, "root")
    faulty = [row["faulty_epoch"] is not None for row in opened(folder, "root").model_table().to_pylist()]
    assert sorted(faulty) == [False, False, True, True]
    run(folder, "child")
    for row in opened(folder, "child").model_table().to_pylist():
        expected = (0, "parent") if faulty[row["parent_model"]] else (None, None)
        assert (row["faulty_epoch"], row["faulty_reason"]) == expected


def test_a_parent_cannot_be_removed_while_it_has_children(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, "root", "--epochs", "2")
    run(folder, "child")
    capsys.readouterr()
    assert main(["store", "rm", f"{folder}/store/zoos/root", "--yes"]) == 2
    assert "child descends from root" in capsys.readouterr().err


def test_show_draws_the_tree(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(folder / "grandchild.yaml")]) == 0
    shown = capsys.readouterr().out
    assert re.search(
        r"family     root: 4 models\n +└─ child: 8 models from models 0:4 after epoch 2\n"
        r" +└─ grandchild: 8 models from models 2:6 after epoch 1 \(this zoo\)\n",
        shown,
    )
    assert main(["show", "digits8-tuned"]) == 0
    lines = capsys.readouterr().out.splitlines()
    tree = lines[2:6]
    assert [line.split(":")[0].lstrip("│├└─ ") for line in tree] == [
        "family     digits8-cnn-s", "digits8-new-head", "digits8-tuned", "digits8-tuned-again",
    ]  # fmt: skip
    assert "(this zoo)" in tree[2]
    assert main(["plan", str(folder / "grandchild.yaml")]) == 0
    assert "8 models = 4 parents x 1 cells x 2 seeds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channels": 4}, "start: the networks of root have another layout: conv1.weight is [3, 1, 3, 3] there and [4"),
        ({"more": child_of("root", models="0:5")}, "child: start.models 0:5: root has 4 models"),
        ({"more": child_of("root", models="4:4")}, 'start: models: it is a half-open range such as "0:8", found'),
        ({"more": child_of("gone")}, "child.yaml: start.zoo: "),
        ({"more": child_of("child")}, "child.yaml: start.zoo: the file names itself"),
        ({"more": child_of("root").replace("root.yaml", "root.yaml, heads: x")}, "start: unknown field 'heads'"),
        ({"more": KEEP.replace("./root.yaml", "digits8-cnn-s-vd")}, "start.zoo: 'digits8-cnn-s-vd' names the twins of"),
        ({"more": KEEP + "\nsplit_rule: {group: seed}"}, "split_rule: models stay in the split of their root"),
        ({"more": KEEP + "\nextend: [{seeds: '5:6'}]"}, "extend: a zoo with `start` has a grid for each parent"),
        ({"initializer": "normal, uniform"}, "axes.initializer: nothing is initialised with start.head keep"),
        ({}, "child: start: root is not published in file://"),
    ],
)  # fmt: skip
def test_an_invalid_spec_gives_one_line_and_nothing_is_written(
    values: dict[str, str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(folder, "child", **({"more": KEEP} | values))
    run(folder, "child", status=2)
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (folder / "store").exists()
