"""Specs: refusals and their messages, what the run id covers, settings, names."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.image_learners import SPEC as LEARNERS
from tests.support.page_blocks import blocks
from tests.support.paths import ROOT
from tests.support.zoo_specs import specs
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.closed import Closed
from zooforge.zoo_jobs.data.own import ImageFile
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.publishing.describe import describe
from zooforge.zoo_jobs.spec.blocks import SparsifySpec, validated
from zooforge.zoo_jobs.spec.epochs import EpochSet, last_part, part_epochs, part_of
from zooforge.zoo_jobs.spec.grid import ModelRow, check_extends, rows
from zooforge.zoo_jobs.spec.names import BEGIN, END, tables
from zooforge.zoo_jobs.spec.overrides import with_overrides
from zooforge.zoo_jobs.spec.schema import json_schema
from zooforge.zoo_jobs.spec.seeds import derived_seed
from zooforge.zoo_jobs.spec.twins import TwinSpec, twins_of
from zooforge.zoo_jobs.spec.yaml_values import yaml_values
from zooforge.zoo_jobs.spec.zoo import ZooSpec
from zooforge.zoo_jobs.tuning.search_spec import TuneSpec

GOOD = entries.load("mnist5k-cnn-s")


def changed(**fields: Any) -> dict[str, Any]:
    return json.loads(json.dumps(GOOD.to_json() | fields))


def refusal(value: Any) -> str:
    with pytest.raises(InputError) as caught:
        ZooSpec.from_json(value, "my.yaml")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("my.yaml: ")
    return message


@given(specs())
@settings(max_examples=40, deadline=None)
def test_a_spec_survives_json(spec: ZooSpec) -> None:
    again = ZooSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert again.run_id == spec.run_id


AXES = GOOD.to_json()["axes"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_epoch": 50}, ["'num_epoch'", "did you mean 'num_epochs'"]),
        (
            {"axes": AXES | {"activation": ["rellu"]}},
            ["axes.activation[0] is 'rellu'", "accepted: leaky_relu"],
        ),
        ({"axes": AXES | {"lerning_rate": [1]}}, ["in axes", "did you mean 'learning_rate'", "weight_decay"]),
        ({"axes": AXES | {"learning_rate": [0.0]}}, ["axes.learning_rate[0] is 0.0", "greater than 0"]),
        ({"axes": AXES | {"dropout_ratio": [1.0]}}, ["axes.dropout_ratio[0] is 1.0", "less than 1"]),
        ({"axes": AXES | {"dropout_ratio": []}}, ["axes.dropout_ratio", "at least 1"]),
        ({"axes": AXES | {"dropout_ratio": [0.5, 0.5]}}, ["axes.dropout_ratio", "twice"]),
        ({"axes": AXES | {"learning_rate": ["1e-3"]}}, ["axes.learning_rate[0] is '1e-3'", "number"]),
        ({"dataset": "cifar"}, ["dataset is 'cifar'", "did you mean 'cifar10'", "tiny-imagenet"]),
        ({"num_epochs": 0}, ["num_epochs is 0"]),
        ({"num_epochs": True}, ["num_epochs is True"]),
        ({"num_epochs": 7.0}, ["num_epochs is 7.0"]),
        ({"name": "Upper"}, ["name is 'Upper'"]),
        ({"name": "a" * 35}, ["name is", "34"]),
        ({"batch_size": 4001}, ["batch_size 4001", "4000"]),
        ({"split": {"train": 4000, "val": 900, "test": 500, "seed": 42}}, ["5400 images", "5000"]),
        ({"split": {"train": 4000, "val": 500, "seed": 42}}, ["split.test", "no official test set"]),
        ({"split": {"train": 4000, "val": 500, "test": 1, "seed": None}}, ["split.seed"]),
        ({"architecture": "cnn-l"}, ["32 x 32", "28 x 28", "preprocessing.resize"]),
        ({"preprocessing": {"mean": [0.5, 0.5], "std": [0.5]}}, ["preprocessing.mean", "2 values for 1 channel"]),
        ({"preprocessing": {"grayscale": True, "mean": [0.5], "std": [0.5]}}, ["grayscale"]),
        ({"preprocessing": {"mean": [0.5], "std": [0.0]}}, ["preprocessing.std[0]"]),
        ({"seeds": "5:5"}, ["seeds", "empty"]),
        ({"seeds": [1, 1]}, ["seeds", "twice"]),
        ({"seeds": [-1]}, ["seeds", "-1"]),
        ({"seeds": "random"}, ["seeds_per_cell and seed_salt"]),
        ({"seed_salt": 4}, ["seed_salt belongs to seeds: random"]),
        ({"save_epochs": ["3:2"]}, ["save_epochs", "'3:2'"]),
        ({"save_epochs": "some"}, ["save_epochs", "'some'"]),
        ({"nesterov": True, "momentum": 0.0}, ["nesterov"]),
        ({"commit_every": 3}, ["num_epochs 50", "commit_every 3"]),
        ({"extend": [{}]}, ["extend[0]", "axis or seeds"]),
        ({"extend": [{"seeds": "random"}]}, ["extend block 0"]),
        ({"sparsify": {"method": "magnitude"}}, ["sparsity_ratio"]),
        ({"sparsify": {"method": "variational_dropout"}}, ["sparsify.method", "did you mean 'variational-dropout'"]),
        ({"sparsify": {"method": "magnitude", "sparsity_ratio": 0.123}}, ["whole percent"]),
    ],
)
def test_an_invalid_spec_is_refused_in_one_line_that_names_field_value_and_choice(
    fields: dict[str, Any], words: list[str]
) -> None:
    message = refusal(changed(**fields))
    for word in words:
        assert word in message


def test_a_missing_field_is_named_with_an_example() -> None:
    value = changed()
    del value["seeds"]
    assert refusal(value) == 'my.yaml: seeds is required, e.g. seeds: "1:11"'


def test_all_missing_fields_are_named_at_once_and_their_examples_are_a_spec() -> None:
    message = refusal({"name": "my-zoo", "axes": {"activation": ["relu"]}, "split": {"train": 9}})
    assert message.startswith("my.yaml: description, source, origin, dataset, preprocessing, split.val, split.seed, ")
    assert "axes.weight_decay, seeds, batch_size and num_epochs are required, e.g. description: " in message
    examples = refusal({"epochs": 50} | changed()), refusal({})
    assert "unknown field 'epochs'" in examples[0]
    spec = ZooSpec.from_json(yaml_values("\n".join(examples[1].split(", e.g. ")[1].split("; ")), "examples"))
    assert (spec.name, spec.num_base_models) == ("my-zoo", 10)
    assert "and 12 more" in refusal({"num_epoch": 3})


def test_other_errors_are_counted_after_the_missing_fields() -> None:
    value = changed(batch_size=0)
    del value["seeds"]
    assert refusal(value).endswith('"1:11" (and 1 more)')


def test_several_problems_are_counted() -> None:
    assert "(and 1 more)" in refusal(changed(num_epochs=0, batch_size=0))


def test_infinity_and_nan_are_refused() -> None:
    for number in (float("nan"), float("inf")):
        value = GOOD.to_json()
        value["axes"]["learning_rate"] = [number]
        assert "learning_rate" in refusal(value)


RESNET: dict[str, Any] = {
    "architecture": "resnet18", "preprocessing": {"resize": 32, "mean": [0.1307], "std": [0.3081]}, "sparsify": None,
    "axes": AXES | {"activation": ["relu"], "dropout_ratio": [0.0]},
}  # fmt: skip
RESULT_CHANGES: list[dict[str, Any]] = [
    {"weight_decay_on": "kernels"},
    {"initializer_scale": 0.5},
    {"initial_bias": 0.0},
    {"dataset": "digits8", "preprocessing": {"resize": 28, "mean": [0.1307], "std": [0.3081]},
     "split": {"train": 1000, "val": 500, "test": 100, "seed": 42}},
    {"preprocessing": {"mean": [0.1307], "std": [0.308]}},
    {"split": {"train": 4000, "val": 500, "test": 500, "seed": 43}},
    {"augment": "crop-flip"},
    {"architecture": "cnn2"},
    {"axes": AXES | {"learning_rate": [0.002, 1e-4]}},
    {"axes": AXES | {"learning_rate": [1e-4, 0.001]}},
    {"seeds": "1:12"},
    {"seeds": "random", "seeds_per_cell": 10, "seed_salt": 0},
    {"seeds": "random", "seeds_per_cell": 10, "seed_salt": 1},
    {"momentum": 0.8},
    {"nesterov": True},
    {"batch_size": 11},
    {"schedule": "one-cycle"},
    {"schedule": "one-cycle", "num_epochs": 60},
    {"train_eval_epochs": [0, 50]},
    {"split_rule": {"group": "cell"}},
    {"split_rule": {"kind": "reference"}},
    {"draws": {"seed": 1, "num_models": 9} | {axis: values[0] for axis, values in AXES.items()}, "axes": None,
     "seeds": [1]},
    {"start": {"zoo": "mnist5k-cnn-s", "epoch": 1, "models": "0:8", "parent": GOOD.to_json()},
     "axes": AXES | {"initializer": ["uniform"]}, "sparsify": None},
    RESNET,
    RESNET | {"precision": "tf32"},
    RESNET | {"precision": "bf16"},
    RESNET | {"memory_format": "channels_last"},
]  # fmt: skip
OTHER_CHANGES: list[dict[str, Any]] = [
    {"name": "another-name"},
    {"description": "Another."},
    {"source": "another"},
    {"origin": "reference"},
    {"conflicts": ["one"]},
    {"num_epochs": 100},
    {"save_epochs": [0, 50]},
    {"commit_every": 5},
    {"extend": [{"activation": ["silu"]}]},
    {"sparsify": None},
    {"train_eval_epochs": [10, 20, 30, 40, 50]},
    {"expected_faulty_ratio": 0.5},
    {"compression": "delta-zstd"},
]


def test_the_run_id_changes_with_everything_that_can_change_a_result() -> None:
    ids = [GOOD.run_id] + [ZooSpec.from_json(changed(**fields)).run_id for fields in RESULT_CHANGES]
    ids += [ZooSpec.from_json(LEARNERS | {"steps_per_epoch": steps}).run_id for steps in (5, 6)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("fields", OTHER_CHANGES, ids=str)
def test_the_run_id_does_not_change_with_what_changes_no_result(fields: dict[str, Any]) -> None:
    assert ZooSpec.from_json(changed(**fields)).run_id == GOOD.run_id


def test_more_images_change_no_run_id() -> None:
    few, more = (ZooSpec.from_json(LEARNERS | {"image": image}) for image in ("0:3", "0:4"))
    assert few.run_id == more.run_id


def test_every_field_of_a_spec_is_known_to_change_a_result_or_not() -> None:
    names = {name for fields in RESULT_CHANGES + OTHER_CHANGES for name in fields}
    assert names | {"task", "image", "steps_per_epoch"} >= set(ZooSpec.model_fields) - {
        "reference",
        "reference_twins",
        "imported_seeds",
    }


def test_the_numerics_version_is_part_of_the_run_id(monkeypatch: pytest.MonkeyPatch) -> None:
    before, twins = GOOD.run_id, twins_of(GOOD).run_id
    for module in ("zoo", "twins"):
        monkeypatch.setattr(f"zooforge.zoo_jobs.spec.{module}.NUMERICS_VERSION", 10**6)
    later = ZooSpec.from_json(GOOD.to_json())
    assert later.run_id != before
    assert twins_of(later).run_id != twins


def test_run_ids_of_the_catalogue_are_those_of_earlier_versions() -> None:
    """A changed id orphans every run in every store: raise NUMERICS_VERSION only with numbers, and say so."""
    golden = json.loads((ROOT / "tests" / "golden" / "run_ids.json").read_text())
    assert {spec.name: spec.run_id for spec in entries.load_all()} == golden


def test_row_digests_of_the_catalogue_are_those_of_earlier_versions() -> None:
    """One SHA-256 per zoo over the digests of its rows and of its twins' rows, each on a line."""
    golden = json.loads((ROOT / "tests" / "golden" / "row_digests.json").read_text())
    assert {spec.name: rows_sha256(spec) for spec in entries.load_all()} == golden


def rows_sha256(spec: ZooSpec) -> str:
    zoos = [spec, twins_of(spec)] if spec.sparsify is not None else [spec]
    return hashlib.sha256("".join(f"{row.digest}\n" for zoo in zoos for row in rows(zoo)).encode()).hexdigest()


def test_a_field_that_comes_later_moves_no_digest_of_a_row_or_spec_that_does_not_use_it() -> None:
    @dataclass(frozen=True, slots=True)
    class LaterRow(ModelRow):
        later: float = 0.0

    row = rows(GOOD)[0]
    values = {name: getattr(row, name) for name in ModelRow.__slots__}
    assert LaterRow(**values).digest == row.digest
    assert LaterRow(**values, later=0.1).digest != row.digest

    class Later(Closed):
        old: int = 1
        new: tuple[int, ...] = (2,)

    assert Later().digest_fields(always=["old"], if_set=["new"]) == {"old": 1}
    assert Later(new=(3,)).digest_fields(always=["old"], if_set=["new"]) == {"old": 1, "new": [3]}


def test_equal_rows_have_equal_digests_and_spellings_of_zero_are_one() -> None:
    value = changed()
    value["axes"]["dropout_ratio"] = [-0.0, 0.5]
    value["axes"]["learning_rate"] = [1e-3, 0.0001]
    again = ZooSpec.from_json(value)
    assert again.run_id == GOOD.run_id
    assert [row.digest for row in rows(again)[:9]] == [row.digest for row in rows(GOOD)[:9]]
    assert re.fullmatch("[0-9a-f]{16}", rows(GOOD)[0].digest)


def test_a_row_digest_covers_every_hyperparameter_and_the_seed_but_not_the_index() -> None:
    digests = [row.digest for row in rows(GOOD)]
    assert len(set(digests)) == len(digests)
    moved = ZooSpec.from_json(changed(seeds="0:10"))
    assert rows(moved)[256].digest == rows(GOOD)[0].digest


def test_random_seeds_derive_from_salt_and_index_alone() -> None:
    spec = entries.load("mnist-cnn-s-hyp-random")
    salt = spec.seed_salt
    assert salt is not None
    assert [row.seed for row in rows(spec)] == [derived_seed(salt, index) for index in range(2560)]
    assert all(0 <= row.seed < 1_000_000 for row in rows(spec))
    # By hand: int.from_bytes(sha256(b"zooforge seed 1 0").digest()[:8]) % 10**6, and two more.
    assert [derived_seed(1, 0), derived_seed(1, 1), derived_seed(2, 0)] == [*DERIVED]


DERIVED = (964767, 411312, 908838)


def test_imported_seeds_take_the_place_of_derived_ones_and_make_another_run() -> None:
    spec = entries.load("mnist-cnn-s-hyp-random")
    seeds = list(range(2560))
    imported = ZooSpec.from_json(spec.to_json() | {"imported_seeds": seeds})
    assert [row.seed for row in rows(imported)] == seeds
    assert imported.run_id != spec.run_id
    with pytest.raises(InputError, match="3 values, the grid 2560 models"):
        ZooSpec.from_json(spec.to_json() | {"imported_seeds": [1, 2, 3]})


def test_a_block_that_repeats_a_model_is_refused() -> None:
    spec = ZooSpec.from_json(changed(extend=[{"activation": ["silu", "tanh"]}]))
    with pytest.raises(InputError, match="extend block 0 repeats model 0"):
        rows(spec)


def test_an_edit_that_would_change_rows_is_refused_and_named() -> None:
    edited = ZooSpec.from_json(changed(axes=AXES | {"learning_rate": [0.002, 1e-4]}))
    with pytest.raises(InputError, match=r"model 0 would be learning_rate 0.002 instead of 0.001.*extend"):
        check_extends(GOOD, edited)
    with pytest.raises(InputError, match="model 2304 is gone"):
        check_extends(GOOD, ZooSpec.from_json(changed(seeds="1:10")))
    with pytest.raises(InputError, match=r"batch_size changed.*--new-lineage"):
        check_extends(GOOD, ZooSpec.from_json(changed(batch_size=20)))
    check_extends(GOOD, ZooSpec.from_json(changed(num_epochs=100, description="Better words.")))


def test_settings_make_another_zoo_which_needs_a_name() -> None:
    other = with_overrides(GOOD, ["batch_size=20", "learning_rate=1e-2", "split.train=3000"], name="my-zoo")
    assert (other.name, other.batch_size, other.axes.learning_rate, other.split.train) == ("my-zoo", 20, (0.01,), 3000)
    assert other.run_id != GOOD.run_id
    assert other.origin == "ours"
    assert with_overrides(GOOD, [], name=None) is GOOD
    for name in (None, GOOD.name):
        with pytest.raises(InputError, match="--name"):
            with_overrides(GOOD, ["batch_size=20"], name=name)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("batch_size", "key=value"),
        ("=3", "key=value"),
        ("batchsize=3", "did you mean 'batch_size'"),
        ("split.trian=3", "did you mean 'train'"),
        ("batch_size=[", "--set batch_size"),
        ("batch_size=1.5", "batch_size is 1.5"),
        ("activation=[relu, tanhh]", "did you mean 'tanh'"),
    ],
)
def test_an_invalid_setting_is_refused_in_one_line(setting: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        with_overrides(GOOD, [setting], name="other")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_twins_are_named_after_method_and_source_epoch() -> None:
    assert twins_of(GOOD).name == "mnist5k-cnn-s-vd"
    assert twins_of(GOOD, source_epoch=6).name == "mnist5k-cnn-s-vd-e006"
    magnitude = SparsifySpec(method="magnitude", sparsity_ratio=0.9)
    assert twins_of(GOOD, magnitude).name == "mnist5k-cnn-s-magnitude-90"
    with pytest.raises(InputError, match="CNNs"):
        twins_of(entries.load("cifar10-resnet18-seed"))
    with pytest.raises(InputError, match="no `sparsify:` block"):
        twins_of(ZooSpec.from_json(changed(sparsify=None)))


def test_twins_of_another_epoch_method_or_parent_are_another_run() -> None:
    zoos = [
        twins_of(GOOD),
        twins_of(GOOD, source_epoch=6),
        twins_of(GOOD, SparsifySpec(method="magnitude", sparsity_ratio=0.9)),
        twins_of(GOOD, SparsifySpec(method="magnitude", sparsity_ratio=0.8)),
        twins_of(ZooSpec.from_json(changed(batch_size=20))),
    ]
    assert len({zoo.run_id for zoo in zoos} | {GOOD.run_id}) == 6
    longer = twins_of(GOOD, SparsifySpec(method="variational-dropout", num_epochs=50))
    assert longer.run_id == zoos[0].run_id


def test_twins_survive_json_and_have_their_parents_rows_without_decay_and_dropout() -> None:
    twins = twins_of(GOOD, source_epoch=6)
    assert TwinSpec.from_json(json.loads(json.dumps(twins.to_json()))) == twins
    with pytest.raises(InputError, match="a twin's spec"):
        TwinSpec.from_json({"parent": 3})
    for row, parent in zip(rows(twins), rows(GOOD), strict=True):
        assert (row.weight_decay, row.dropout_ratio) == (0.0, 0.0)
        for name in ("index", "optimizer", "learning_rate", "seed", "activation", "momentum"):
            assert getattr(row, name) == getattr(parent, name)


def test_choices_of_twins_enter_their_run_id_only_where_they_are_not_the_default() -> None:
    def twins(**fields: Any) -> TwinSpec:
        return twins_of(GOOD, validated(SparsifySpec, {"method": "variational-dropout", **fields}, "sparsify"))

    plain = twins()
    assert set(plain.run_content) == {"method", "sparsity_ratio", "parent_run", "source_epoch", "numerics_version"}
    assert twins(lambda_epochs=25, weight_decay=0).run_id == plain.run_id
    ids = {zoo.run_id for zoo in (plain, twins(lambda_epochs=10), twins(weight_decay="parent"))}
    assert len(ids) == 3
    kept = twins(weight_decay="parent")
    assert [row.weight_decay for row in rows(kept)] == [row.weight_decay for row in rows(GOOD)]
    assert {row.dropout_ratio for row in rows(kept)} == {0.0}
    assert TwinSpec.from_json(json.loads(json.dumps(kept.to_json()))) == kept
    with pytest.raises(InputError, match=r"weight_decay is 'parents'; did you mean 'parent'\? accepted: parent, 0"):
        twins(weight_decay="parents")
    with pytest.raises(InputError, match="lambda_epochs belongs to method variational-dropout"):
        validated(SparsifySpec, {"method": "magnitude", "sparsity_ratio": 0.5, "lambda_epochs": 3}, "sparsify")


@given(st.lists(st.integers(0, 60)), st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9))))
def test_equal_sets_of_epochs_have_one_spelling(single: list[int], spans: list[tuple[int, int]]) -> None:
    items: list[Any] = [*single, *(f"{start}:{start + length}" for start, length in spans)]
    wanted = set(single) | {epoch for start, length in spans for epoch in range(start, start + length)}
    epochs = EpochSet.parse(items)
    assert set(epochs.below(100)) == wanted
    assert EpochSet.parse(sorted(wanted)).to_json() == epochs.to_json()
    assert EpochSet.parse(epochs.to_json()) == epochs


def test_epochs_are_written_as_people_write_them() -> None:
    assert EpochSet.parse(["0:3", "21:26", 50]).below(60) == (0, 1, 2, 21, 22, 23, 24, 25, 50)
    assert EpochSet.parse(["0:51:10"]).below(60) == (0, 10, 20, 30, 40, 50)
    assert 12345 in EpochSet.parse("all")
    assert EpochSet.parse("all").with_epoch_0() == EpochSet(None)
    assert EpochSet.parse([]).below(9) == ()


@given(st.integers(1, 9), st.integers(0, 99))
def test_parts_partition_epochs_and_end_at_multiples(commit_every: int, epoch: int) -> None:
    part = part_of(epoch, commit_every)
    assert epoch in part_epochs(part, commit_every)
    assert part_epochs(part, commit_every)[-1] == part * commit_every
    assert part_epochs(0, commit_every) == range(1)
    assert last_part(part * commit_every, commit_every) == part


def test_the_json_schema_that_is_checked_in_is_up_to_date() -> None:
    path = ROOT / "docs" / "zoo-spec.schema.json"
    assert json.loads(path.read_text()) == json_schema(), "run `make docs`"


def test_the_json_schema_accepts_every_entry_of_the_catalogue_and_refuses_unknown_fields() -> None:
    import jsonschema

    validator = jsonschema.Draft202012Validator(json_schema())
    for name in entries.names():
        value = yaml_values((entries.FOLDER / f"{name}.yaml").read_text(), name)
        validator.validate(value)
        assert not validator.is_valid(value | {"num_epoch": 3})


def test_the_page_about_specs_lists_the_names_of_every_registry() -> None:
    page = (ROOT / "docs" / "zoo-spec.md").read_text()
    assert page.partition(BEGIN)[2].partition(END)[0] == tables(), "run `make docs`"


def test_the_examples_of_the_page_about_specs_are_correct() -> None:
    page = (ROOT / "docs" / "zoo-spec.md").read_text()
    table = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    assert [derived_seed(int(salt), int(index)) for salt, index, _ in table] == [int(seed) for *_, seed in table]
    pages = ["zoo-spec.md", *(f"how-to/{name}.md" for name in ("own-images", "own-network", "search-a-grid"))]
    shown = [block for name in pages for block in blocks(Path("docs", name)) if block.language == "yaml"]
    parts = {block.code.partition(":")[0]: block.code for block in shown}
    extension, rule, twins, search = (parts[first] for first in ("extend", "split_rule", "sparsify", "name"))
    value = {name: field for name, field in GOOD.to_json().items() if name not in ("axes", "extend")}
    drawn = ZooSpec.from_json(value | yaml_values(parts["draws"], "page") | {"seeds": "random", "seed_salt": 1})
    assert len(rows(drawn)) == 1000
    for line in parts["dataset"].splitlines():
        dataset = yaml_values(line, "page")["dataset"]
        assert isinstance(dataset, str) or validated(ImageFile, dataset, "page")
    network = ZooSpec.from_json(changed(**yaml_values(parts["architecture"], "page"))).network("tanh", dropout=False)
    assert network.num_classes == 10
    assert ZooSpec.from_json(GOOD.to_json() | yaml_values(rule, "page")).run_id == GOOD.run_id
    with_twins = ZooSpec.from_json(GOOD.to_json() | yaml_values(twins, "page"))
    assert twins_of(with_twins).run_id == twins_of(GOOD).run_id
    spec = ZooSpec.from_json(GOOD.to_json() | yaml_values(extension, "page"))
    added = [640, 2560, 1600]  # silu in 64 cells; 10 more seeds; one rate in place of two, five activations for four
    assert len(rows(spec)) == 2560 + sum(added)
    assert validated(TuneSpec, yaml_values(search, "page"), "page").zoo == "mnist5k-cnn-s"


@pytest.mark.parametrize("setting", ["precision=bf16", "precision=tf32", "memory_format=channels_last"])
def test_arithmetic_is_part_of_the_identity_of_a_run_and_only_of_networks_that_can_have_it(setting: str) -> None:
    resnet = entries.load("cifar10-resnet18-seed")
    assert with_overrides(resnet, [setting], name="other").run_id != resnet.run_id
    assert "precision" not in resnet.run_content
    with pytest.raises(InputError, match="cnn-s is a layer list, which is not computed in"):
        with_overrides(entries.load("mnist5k-cnn-s"), [setting], name="other")


def test_the_bfloat16_sisters_differ_from_the_references_zoos_in_arithmetic_alone() -> None:
    for data in ("cifar10", "cifar100", "tiny-imagenet"):
        plain, sister = (entries.load(f"{data}-resnet18-seed{ending}") for ending in ("", "-bf16"))
        expected = {"precision": "bf16", "memory_format": "channels_last"}
        assert sister.run_content == plain.run_content | expected
        assert "Precision: trained and evaluated in bf16" in describe(sister).notes[-1]
        assert describe(plain).notes == plain.conflicts
