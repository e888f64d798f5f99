"""The catalogue agrees with the reference: counts, grid order, names, splits, preprocessing."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.spec.grid import root_models, rows
from zooforge.zoo_jobs.spec.overrides import with_overrides
from zooforge.zoo_jobs.spec.twins import TwinSpec
from zooforge.zoo_jobs.spec.yaml_values import yaml_values

ALL = entries.load_all()
REFERENCE = [spec for spec in ALL if spec.origin == "reference"]

COUNTS = {
    "mnist-cnn-s-seed": 1000, "mnist-cnn-s-hyp-fixed": 2560, "mnist-cnn-s-hyp-random": 2560,
    "fashion-mnist-cnn-s-seed": 1000, "fashion-mnist-cnn-s-hyp-fixed": 2560, "fashion-mnist-cnn-s-hyp-random": 2560,
    "svhn-cnn-s-seed": 1000, "svhn-cnn-s-hyp-fixed": 4320, "svhn-cnn-s-hyp-random": 4320,
    "usps-cnn-s-seed": 1000, "usps-cnn-s-hyp-fixed": 2560, "usps-cnn-s-hyp-random": 2560,
    "cifar10-cnn-s-seed": 1000, "cifar10-cnn-s-hyp-fixed": 1280, "cifar10-cnn-s-hyp-random": 1280,
    "cifar10-cnn-l-seed": 1000, "cifar10-cnn-l-hyp-fixed": 1280, "cifar10-cnn-l-hyp-random": 1280,
    "stl10-cnn-s-seed": 1000, "stl10-cnn-s-hyp-fixed": 2560, "stl10-cnn-s-hyp-random": 2560,
    "stl10-cnn-l-seed": 1000, "stl10-cnn-l-hyp-fixed": 2560, "stl10-cnn-l-hyp-random": 2560,
    "cifar10-resnet18-seed": 1000, "cifar100-resnet18-seed": 1000, "tiny-imagenet-resnet18-seed": 1000,
}  # fmt: skip
"""Models of each zoo of the reference, counted by executing its scripts."""


LIKE_THE_REFERENCE = (
    "eurosat-cnn-s", "mnist5k-cnn-s", "digits8-cnn-s", "cifar10-resnet18-seed-bf16", "cifar100-resnet18-seed-bf16",
    "tiny-imagenet-resnet18-seed-bf16",
)  # fmt: skip
"""Zoos of ours that differ from the reference's only in data or arithmetic."""
FAMILY = {"digits8-tuned": 16, "digits8-new-head": 16, "digits8-tuned-again": 32}
"""Zoos that descend from digits8-cnn-s, and their models."""


LEARNERS = tuple(f"{data}-inr-{kind}" for data in ("mnist5k", "fashion-mnist") for kind in ("shared", "own"))
"""Zoos whose models learn one image each."""


def test_learners_of_images_have_5000_sine_networks_with_shared_or_own_initial_weights() -> None:
    for name in LEARNERS:
        spec = entries.load(name)
        table = rows(spec)
        assert [row.image for row in table] == list(range(5000))
        num_seeds = len({row.seed for row in table})
        assert num_seeds == 1 if name.endswith("shared") else num_seeds > 4900
        assert spec.network("identity", dropout=False).layout.size == 1185
        assert spec.num_epochs * spec.num_steps == 1000


def test_the_27_zoos_of_the_reference_have_50360_models_and_2588360_states() -> None:
    assert {spec.name: len(rows(spec)) for spec in REFERENCE} == COUNTS
    assert sum(COUNTS.values()) == 50_360
    assert sum(len(rows(spec)) * (spec.num_epochs + 1) for spec in REFERENCE) == 2_588_360


def test_files_are_named_after_their_zoos_and_twins_names_are_free() -> None:
    assert tuple(spec.name for spec in ALL) == entries.names()
    assert set(entries.names()) >= {*COUNTS, *LIKE_THE_REFERENCE, *FAMILY, *LEARNERS}
    assert len({spec.run_id for spec in ALL}) == len(ALL)


def test_the_family_of_digits_is_a_tree_of_three_levels() -> None:
    members = {spec.name: spec for spec in ALL if spec.family_root.name == "digits8-cnn-s"}
    assert {name: len(rows(spec)) for name, spec in members.items() if spec.start is not None} == FAMILY
    above = {name: spec.start.zoo for name, spec in members.items() if spec.start is not None}
    assert above == {
        "digits8-tuned": "digits8-cnn-s", "digits8-new-head": "digits8-cnn-s", "digits8-tuned-again": "digits8-tuned",
    }  # fmt: skip
    first, last = rows(members["digits8-tuned-again"])[0], rows(members["digits8-tuned-again"])[-1]
    assert (first.parent_model, last.parent_model, last.parent_epoch) == (0, 15, 10)
    assert first.parent_run == members["digits8-tuned"].run_id
    assert set(root_models(members["digits8-tuned-again"])) == set(range(8))


EXPECTED_ROWS = {
    0: ("tanh", 0.0, "uniform", "adam", 0.001, 0.001, 1),
    1: ("tanh", 0.5, "uniform", "adam", 0.001, 0.001, 1),
    2: ("tanh", 0.0, "normal", "adam", 0.001, 0.001, 1),
    8: ("relu", 0.0, "uniform", "adam", 0.001, 0.001, 1),
    32: ("tanh", 0.0, "uniform", "adam", 1e-4, 0.001, 1),
    64: ("tanh", 0.0, "uniform", "sgd", 0.001, 0.001, 1),
    128: ("tanh", 0.0, "uniform", "adam", 0.001, 1e-4, 1),
    256: ("tanh", 0.0, "uniform", "adam", 0.001, 0.001, 2),
    2559: ("gelu", 0.5, "kaiming_normal", "sgd", 1e-4, 1e-4, 10),
}


@pytest.mark.parametrize("index", EXPECTED_ROWS)
def test_grid_order_is_the_references(index: int) -> None:
    row = rows(entries.load("mnist-cnn-s-hyp-fixed"))[index]
    hyperparameters = (
        row.activation,
        row.dropout_ratio,
        row.initializer,
        row.optimizer,
        row.learning_rate,
        row.weight_decay,
    )
    assert (row.index, *hyperparameters, row.seed) == (index, *EXPECTED_ROWS[index])
    assert (row.momentum, row.nesterov) == (0.9, False)


def test_the_first_32_models_span_every_dropout_initializer_and_activation() -> None:
    first = rows(entries.load("mnist5k-cnn-s"))[:32]
    assert len({(row.dropout_ratio, row.initializer, row.activation) for row in first}) == 32


def test_seed_zoos_have_seeds_1_to_1000_and_one_cell() -> None:
    for spec in REFERENCE:
        if spec.name.endswith("-seed"):
            assert spec.kind == "seed"
            assert [row.seed for row in rows(spec)] == list(range(1, 1001))


def test_kinds_follow_from_names() -> None:
    for spec in REFERENCE:
        assert spec.name.endswith(spec.kind)


def test_random_zoos_share_no_salt() -> None:
    salts = [spec.seed_salt for spec in ALL if spec.kind == "hyp-random"]
    assert len(set(salts)) == len(salts) == 8
    seeds = [row.seed for row in rows(entries.load("mnist-cnn-s-hyp-random"))]
    assert 2540 < len(set(seeds)) <= 2560  # each is drawn by itself, so a few repeat, as in the reference


SPLITS = {
    "mnist": (50_000, 10_000, 10_000), "fashion-mnist": (50_000, 10_000, 10_000), "svhn": (60_000, 13_257, 26_032),
    "usps": (6_000, 1_291, 2_007), "cifar10": (42_000, 8_000, 10_000), "stl10": (4_200, 800, 8_000),
    "mnist5k": (4_000, 500, 500), "digits8": (1_257, 270, 270), "eurosat": (18_900, 4_050, 4_050),
}  # fmt: skip
RESNET_SPLITS = {
    "cifar10": (40_000, 10_000, 10_000), "cifar100": (40_000, 10_000, 10_000), "tiny-imagenet": (100_000, 0, 10_000),
}  # fmt: skip


@pytest.mark.parametrize("name", [*COUNTS, *LIKE_THE_REFERENCE])
def test_splits_images_and_networks_fit_the_references(name: str) -> None:
    spec = entries.load(name)
    expected = RESNET_SPLITS if spec.architecture == "resnet18" else SPLITS
    assert (spec.split.train, spec.split.val, spec.num_test) == expected[spec.dataset]
    assert spec.split.seed == (None if spec.dataset == "tiny-imagenet" else 42)
    if spec.architecture == "resnet18":
        assert (spec.schedule, spec.batch_size, spec.sparsify) == (
            "one-cycle", 256 if spec.dataset == "cifar10" else 128, None,
        )  # fmt: skip
        assert spec.num_epochs == (50 if spec.dataset == "cifar10" else 60)
        assert spec.num_steps == {"cifar10": 157, "cifar100": 313, "tiny-imagenet": 782}[spec.dataset]
    else:
        assert (spec.schedule, spec.batch_size, spec.num_epochs, spec.augment) == (None, 10, 50, None)
        assert spec.sparsify is not None
        assert (spec.sparsify.method, spec.sparsify.num_epochs) == ("variational-dropout", 25)
    assert spec.in_channels == (
        1 if spec.dataset in {*["mnist", "fashion-mnist", "svhn", "usps", "mnist5k", "digits8"]} else 3
    )


def test_optimizer_steps_of_the_24_cnn_zoos_are_those_of_the_reference() -> None:
    steps: Counter[str] = Counter()
    for spec in REFERENCE:
        if spec.architecture != "resnet18":
            steps[spec.dataset] += len(rows(spec)) * spec.num_epochs * spec.num_steps
    rounded = {name: round(count / 1e9, 2) for name, count in steps.items()}
    assert rounded == {
        "mnist": 1.53, "fashion-mnist": 1.53, "svhn": 2.89, "usps": 0.18, "cifar10": 1.5, "stl10": 0.26,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tune_zoo_mnist_uniform", "mnist-cnn-s-seed"),
        ("mnist_uniform", "mnist-cnn-s-seed"),
        ("train_zoo_mnist_uniform", "mnist-cnn-s-seed"),
        ("train_zoo_mnist_uniform.py", "mnist-cnn-s-seed"),
        ("cnn-small_mnist/tune_zoo_mnist_uniform", "mnist-cnn-s-seed"),
        ("stl-10_large_hyperparameter_10_random_seed", "stl10-cnn-l-hyp-random"),
        ("tune_zoo_usps_hyperparameter_10_fixed_seed", "usps-cnn-s-hyp-fixed"),
        ("tune_zoo_usps_hyperparameter_10_fixed_seeds", "usps-cnn-s-hyp-fixed"),
        ("tune_zoo_fmnist_uniform", "fashion-mnist-cnn-s-seed"),
        ("TUNE_ZOO_tinyimagenet_resnet18_kaiming_uniform", "tiny-imagenet-resnet18-seed"),
        ("train_mnist_sparse_vd.py", "mnist-cnn-s-seed-vd"),
        ("cnn_small_svhn_ard", "svhn-cnn-s-seed-vd"),
        ("mnist-cnn-s-seed-vd", "mnist-cnn-s-seed-vd"),
        ("mnist5k-cnn-s-vd-e006", "mnist5k-cnn-s-vd-e006"),
        ("usps-cnn-s-seed-magnitude-70", "usps-cnn-s-seed-magnitude-70"),
    ],
)
def test_a_name_of_the_reference_or_of_twins_finds_its_zoo(name: str, expected: str) -> None:
    assert entries.resolve(name).name == expected


def test_twins_of_a_zoo_that_is_not_in_the_catalogue_are_named_likewise() -> None:
    mine = with_overrides(entries.load("mnist5k-cnn-s"), ["batch_size=20"], name="my-zoo")
    assert entries.twin_parent("my-zoo-magnitude-80-e006") == "my-zoo"
    assert entries.twin_parent("my-zoo") is None
    twins = entries.twins_named("my-zoo-magnitude-80-e006", mine)
    assert (twins.name, twins.source_epoch, twins.sparsify.percent) == ("my-zoo-magnitude-80-e006", 6, 80)
    with pytest.raises(InputError, match="no twins of my-zoo"):
        entries.twins_named("mnist5k-cnn-s-vd", mine)
    with pytest.raises(InputError, match="0"):
        entries.twins_named("my-zoo-magnitude-00", mine)


def test_no_two_zoos_share_a_name_of_the_reference() -> None:
    names: Counter[str] = Counter()
    for spec in ALL:
        for reference in (spec.reference, spec.reference_twins):
            names.update(reference.names if reference else ())
    assert names.most_common(1)[0][1] == 1
    assert not set(names) & set(entries.names())


def test_every_zoo_of_the_reference_says_where_it_comes_from() -> None:
    for spec in REFERENCE:
        assert spec.reference is not None
        assert spec.reference.script is not None and spec.reference.experiment is not None
        assert spec.reference.published and spec.reference.zenodo
        assert "2209.14764" in spec.source


def test_known_conflicts_are_in_the_entries() -> None:
    def conflicts(name: str) -> str:
        return " ".join(entries.load(name).conflicts)

    for dataset in ("mnist", "fashion-mnist"):
        for kind in ("hyp-fixed", "hyp-random"):
            assert "Weight decay" in conflicts(f"{dataset}-cnn-s-{kind}")
    assert "Learning rate" in conflicts("svhn-cnn-s-hyp-fixed")
    assert "Learning rate" in conflicts("cifar10-cnn-s-hyp-fixed")
    assert "Learning rate" not in conflicts("cifar10-cnn-s-hyp-random")
    assert "ours" in conflicts("eurosat-cnn-s")
    assert "-999" in conflicts("mnist-cnn-s-seed")
    assert "51 are written" in conflicts("cifar10-resnet18-seed")


def test_an_unknown_zoo_is_refused_and_the_nearest_offered() -> None:
    with pytest.raises(InputError, match="did you mean 'mnist-cnn-s-seed'"):
        entries.load("mnist-cnn-s-sed")
    with pytest.raises(InputError, match="unknown zoo 'zzz'"):
        entries.load("zzz")
    with pytest.raises(InputError, match="twins of mnist-cnn-s-seed"):
        entries.load("mnist-cnn-s-seed-vd")
    assert isinstance(entries.resolve("mnist-cnn-s-seed-vd"), TwinSpec)


def test_a_yaml_path_is_a_zoo_and_its_errors_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = (entries.FOLDER / "digits8-cnn-s.yaml").read_text()
    path.write_text(text.replace("name: digits8-cnn-s", "name: mine\nsave_epochs: [0:3, 21:26, 50]"))
    spec = entries.load(str(path))
    assert spec.save_epochs.below(60) == (0, 1, 2, 21, 22, 23, 24, 25, 50)
    assert spec.run_id == entries.load("digits8-cnn-s").run_id
    for content, said in (
        ("a: [", "line 2"),
        ("- 1\n", "mapping of fields"),
        ("name: x\nname: y\n", "named twice"),
        ("", "mapping of fields"),
        ("a: !!python/object:os.system {}", "write the plain value"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=said) as caught:
            entries.load(str(path))
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        entries.load(str(path))
    with pytest.raises(InputError, match="No such file"):
        entries.load(str(tmp_path / "none.yaml"))


def test_yaml_is_read_as_people_mean_it() -> None:
    text = "{a: 1e-3, b: no, c: 21:26, d: 2026-11-24, e: .5, f: true, g: ~, h: -3, i: 010, j: '5', k: null, l: 1_000}"
    assert yaml_values(text, "x") == {
        "a": 0.001, "b": "no", "c": "21:26", "d": "2026-11-24", "e": 0.5, "f": True, "g": None, "h": -3, "i": "010",
        "j": "5", "k": None, "l": "1_000",
    }  # fmt: skip


def test_specs_rows_and_plans_are_pure() -> None:
    code = (
        "import sys; from zooforge.zoo_jobs.catalogue.entries import load_all\n"
        "from zooforge.zoo_jobs.planning.units import work_units\n"
        "[work_units(spec) for spec in load_all()[:3]]\n"
        "print(sorted({'torch', 'ray', 'boto3', 'botocore', 'kubernetes', 'prometheus_client'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
