"""Specs: refusals and their messages, what the run id covers, settings, names."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from tests.support.page_blocks import blocks
from tests.support.paths import ROOT
from tests.support.zoo_specs import GOOD, changed, specs
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.data.own import ImageFile
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.spec.blocks import validated
from zooforge.zoo_jobs.spec.grid import check_extends, rows
from zooforge.zoo_jobs.spec.names import BEGIN, END, tables
from zooforge.zoo_jobs.spec.overrides import with_overrides
from zooforge.zoo_jobs.spec.schema import json_schema
from zooforge.zoo_jobs.spec.seeds import derived_seed
from zooforge.zoo_jobs.spec.twins import twins_of
from zooforge.zoo_jobs.spec.yaml_values import yaml_values
from zooforge.zoo_jobs.spec.zoo import ZooSpec
from zooforge.zoo_jobs.tuning.search_spec import TuneSpec


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
    other_salt = ZooSpec.from_json(imported.to_json() | {"seed_salt": 99})
    assert other_salt.run_id == imported.run_id  # no seed is derived from the salt
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
