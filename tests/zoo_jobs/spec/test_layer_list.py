"""Networks as layer lists in a spec: their normal form, refusals with their place, and what follows from the list."""

import json
from typing import Any

import pytest

from zooforge.storage.canonical import digest_of
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.models.layers import Activation, Architecture
from zooforge.zoo_jobs.models.registry import ARCHITECTURES, architecture
from zooforge.zoo_jobs.planning.units import unit_models as units_of
from zooforge.zoo_jobs.publishing.describe import describe
from zooforge.zoo_jobs.spec.grid import rows
from zooforge.zoo_jobs.spec.layer_list import LayerList, unit_models
from zooforge.zoo_jobs.spec.overrides import with_overrides
from zooforge.zoo_jobs.spec.schema import json_schema
from zooforge.zoo_jobs.spec.twins import twins_of
from zooforge.zoo_jobs.spec.zoo import ZooSpec

GOOD = entries.load("mnist5k-cnn-s").to_json()
LAYERS: list[Any] = [
    {"conv": {"channels": 16, "kernel": 3, "stride": 2}},
    "activation",
    {"conv": {"channels": 16, "kernel": 3, "padding": "same"}},
    {"activation": {"name": "sine", "omega": 30}},
    {"add": 1},
    "dropout",
    {"avg_pool": "global"},
    {"linear": {"features": "classes"}},
]


def spec_of(layers: list[Any], width: float | None = None, **fields: Any) -> ZooSpec:
    network: dict[str, Any] = {"layers": layers} | ({} if width is None else {"width": width})
    return ZooSpec.from_json(json.loads(json.dumps(GOOD | {"architecture": network} | fields)), "mine.yaml")


def refusal(layers: Any, **fields: Any) -> str:
    with pytest.raises(InputError) as caught:
        spec_of(layers, **fields)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("mine.yaml: ")
    return message.removeprefix("mine.yaml: ")


def changed(index: int, value: Any) -> list[Any]:
    return [*LAYERS[:index], value, *LAYERS[index + 1 :]]


def test_the_normal_form_has_every_default_and_keeps_classes_and_global() -> None:
    spec = spec_of(LAYERS)
    normal = [
        {"conv": {"channels": 16, "kernel": 3, "stride": 2, "padding": 0}},
        "activation",
        {"conv": {"channels": 16, "kernel": 3, "stride": 1, "padding": 1}},
        {"activation": {"name": "sine", "omega": 30.0}},
        {"add": 1},
        "dropout",
        {"avg_pool": "global"},
        {"linear": {"features": "classes"}},
    ]
    assert spec.run_content["architecture"] == {"layers": normal}
    assert spec.to_json()["architecture"] == {"layers": normal}
    assert spec.architecture_name == f"layers-{digest_of(normal)[:8]}"
    again = ZooSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.run_id == spec.run_id == spec_of(normal).run_id


def test_the_name_of_a_list_never_changes() -> None:
    assert spec_of(LAYERS).architecture_name == "layers-941c63d8"


def test_the_list_becomes_the_network() -> None:
    network = spec_of(LAYERS).network("relu", dropout=False)
    assert isinstance(network, Architecture)
    assert network.shapes[-1] == (10,)
    assert [type(layer).__name__ for layer in network.layers] == [
        "Conv2d", "Activation", "Conv2d", "Activation", "Add", "Dropout", "GlobalAvgPool2d", "Linear",
    ]  # fmt: skip
    assert {layer.name for layer in network.layers if isinstance(layer, Activation)} == {"relu", "sine"}
    assert network == spec_of(LAYERS).network("relu", dropout=True)  # dropout layers stay at ratio 0


def test_a_list_equal_to_a_network_of_the_registry_is_another_run_of_the_same_numbers() -> None:
    layers = [
        {"conv": {"channels": 8, "kernel": 5}}, {"max_pool": {"kernel": 2}}, "activation",
        {"conv": {"channels": 6, "kernel": 5}}, {"max_pool": {"kernel": 2, "stride": 2}}, "activation",
        {"conv": {"channels": 4, "kernel": 2, "padding": "valid"}}, "activation", "flatten",
        {"linear": {"features": 20}}, "activation", {"linear": {"features": "classes"}},
    ]  # fmt: skip
    spec = spec_of(layers, axes=GOOD["axes"] | {"dropout_ratio": [0.0]})
    named = entries.load("mnist5k-cnn-s")
    ours, theirs = spec.network("tanh", dropout=False), named.network("tanh", dropout=False)
    assert ours.layers == theirs.layers
    assert ours.layout == theirs.layout
    assert spec.run_id != ZooSpec.from_json(GOOD | {"axes": GOOD["axes"] | {"dropout_ratio": [0.0]}}).run_id


def test_width_scales_hidden_sizes_and_two_widths_are_two_runs() -> None:
    layers = [
        {"conv": {"channels": 4, "kernel": 3}}, "activation", {"avg_pool": "global"}, "dropout",
        {"linear": {"features": 6}}, {"linear": {"features": "classes"}},
    ]  # fmt: skip
    wide = spec_of(layers, width=1.5)
    shapes = [shape[0] for shape in wide.network("relu", dropout=False).shapes]  # type: ignore[union-attr]
    assert shapes == [1, 6, 6, 6, 6, 9, 10]
    assert wide.run_id != spec_of(layers).run_id
    assert wide.to_json()["architecture"]["width"] == 1.5
    scaled = [
        {"conv": {"channels": 6, "kernel": 3}}, "activation", {"avg_pool": "global"}, "dropout",
        {"linear": {"features": 9}}, {"linear": {"features": "classes"}},
    ]  # fmt: skip
    assert wide.run_id == spec_of(scaled).run_id
    assert wide.architecture_name == spec_of(scaled).architecture_name
    again = with_overrides(wide, ["architecture.width=2"], name="wider")
    assert again.run_id == spec_of(layers, width=2).run_id
    assert "architecture.width: 0.3 times the 4 of layers[0] is 1.2, not a whole number" in refusal(layers, width=0.3)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (changed(0, {"conv": {"channels": 16, "kernel": 0}}), "architecture.layers[0].conv.kernel: it is a whole"),
        (changed(0, {"conv": {"channels": True, "kernel": 3}}), "architecture.layers[0].conv.channels: it is a whole"),
        (changed(0, {"conv": {"channels": 4}}), "architecture.layers[0].conv.kernel: it is required"),
        (changed(0, {"conv": {"channels": 4, "kernel": 3, "strides": 2}}),
         "architecture.layers[0].conv.strides: unknown field 'strides'; did you mean 'stride'"),
        (changed(0, {"conv": {"channels": 4, "kernel": 3, "dilation": 2}}),
         "architecture.layers[0].conv.dilation: convolutions with dilation are not supported"),
        (changed(0, {"conv": {"channels": 4, "kernel": 3, "groups": 2}}),
         "architecture.layers[0].conv.groups: convolutions with groups are not supported"),
        (changed(0, {"conv": {"channels": 4, "kernel": 2, "padding": "same"}}),
         "architecture.layers[0].conv.padding: same needs an odd kernel"),
        (changed(0, {"conv": {"channels": 4, "kernel": 3, "padding": 3}}), "layers[0].conv.padding: 3 is not below"),
        (changed(0, {"conv": {"channels": 4, "kernel": 3, "padding": "full"}}), "number, same or valid, found 'full'"),
        (changed(0, {"conv": 16}), "architecture.layers[0].conv: it has the fields channels, kernel, stride, padding"),
        (changed(0, "conv"), "architecture.layers[0].conv: conv needs its arguments, e.g. conv: {channels: 16"),
        (changed(0, {"conv2": {}}), "architecture.layers[0]: unknown layer 'conv2'; did you mean 'conv'"),
        (changed(0, ["conv"]), "architecture.layers[0]: a layer is a name such as dropout"),
        (changed(0, {"conv": {"channels": 4, "kernel": 3}, "flatten": {}}), "architecture.layers[0]: one layer per"),
        (changed(2, {"conv": {"channels": 4, "kernel": 14}}), "architecture.layers[2].conv: kernel 14 is larger than"),
        (changed(1, {"activation": "tahn"}), "layers[1].activation: unknown activation 'tahn'; did you mean 'tanh'"),
        (changed(3, {"activation": {"name": "relu", "omega": 2}}), "layers[3].activation.omega: only sine has"),
        (changed(3, {"activation": {"name": "sine", "omega": 0}}), "layers[3].activation.omega: it is a number above"),
        (changed(4, {"add": 4}), "architecture.layers[4].add: add reads an earlier layer, of 0 to 3, found 4"),
        (changed(2, {"conv": {"channels": 8, "kernel": 3}}), "architecture.layers[4].add: add needs equal shapes"),
        (changed(6, {"avg_pool": {"kernel": 14}}), "architecture.layers[6].avg_pool: kernel 14 is larger than the ima"),
        (changed(6, {"max_pool": "global"}), "layers[6].max_pool: 'global' is no window; accepted: {kernel, stride}"),
        (changed(6, {"avg_pool": {"kernel": 2, "stride": 0}}), "layers[6].avg_pool.stride: it is a whole number"),
        (changed(5, {"dropout": 0.5}), "layers[5].dropout: dropout has no arguments, found 0.5; its ratio is the axis"),
        (changed(6, "dropout"), "architecture.layers[7].linear: it takes a vector, and the layer before gives [16"),
        (LAYERS[:-1], "architecture.layers[6]: the last layer gives [16], expected one value per class, [10]"),
        (changed(7, {"linear": {"features": 12}}), "architecture.layers[7]: the last layer gives [12], expected one"),
        (changed(7, {"linear": {"features": "class"}}), "layers[7].linear.features: it is a whole number or classes"),
        ([], "architecture.layers: it is a list of layers, found []"),
        ({"conv": 3}, "architecture.layers: it is a list of layers"),
    ],
)  # fmt: skip
def test_an_invalid_layer_list_gives_one_line_with_its_place(layers: Any, words: str) -> None:
    assert words in refusal(layers)


def test_other_fields_of_the_block_are_refused() -> None:
    def with_network(value: Any) -> str:
        with pytest.raises(InputError) as caught:
            ZooSpec.from_json(GOOD | {"architecture": value}, "mine.yaml")
        return str(caught.value)

    assert with_network({"layer": LAYERS}) == (
        "mine.yaml: architecture.layer: unknown field 'layer'; did you mean 'layers'? accepted: layers, width"
    )
    assert "architecture.width: it is a number above 0, found 0" in with_network({"layers": LAYERS, "width": 0})
    assert "architecture is 'cnn-m'; did you mean 'cnn-" in with_network("cnn-m")
    assert "architecture is 3; accepted" in with_network(3)


def test_an_axis_that_no_layer_uses_is_refused_and_one_that_is_used_is_required() -> None:
    axes = GOOD["axes"] | {"activation": ["tanh"], "dropout_ratio": [0.0]}
    fixed = changed(1, {"activation": "relu"})
    assert "axes.activation: no layer of the architecture uses it" in refusal(fixed, axes=axes)
    without = {name: values for name, values in axes.items() if name != "activation"}
    spec = spec_of(fixed, axes=without)
    assert {row.activation for row in rows(spec)} == {"identity"}
    assert ZooSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert "axes.activation is required, e.g. axes.activation: [tanh, relu]" in refusal(LAYERS, axes=without)
    no_dropout = [*LAYERS[:5], *LAYERS[6:]]
    assert spec_of(no_dropout, axes=axes)
    message = refusal(no_dropout, axes=axes | {"dropout_ratio": [0.0, 0.5]})
    assert "axes.dropout_ratio: no layer of the architecture uses it; put `dropout` into its layers" in message
    extended = refusal(no_dropout, axes=axes, extend=[{"dropout_ratio": [0.5]}])
    assert "axes.dropout_ratio: no layer of the architecture uses it" in extended
    with pytest.raises(InputError, match=r"axes\.dropout_ratio is required"):
        ZooSpec.from_json(GOOD | {"axes": {k: v for k, v in GOOD["axes"].items() if k != "dropout_ratio"}})


def test_every_network_has_an_output_per_class() -> None:
    for name, row in ARCHITECTURES.items():
        for classes in (43, 100):
            network = architecture(name, 3, "relu", False, num_classes=classes, image_size=row.image_sizes[0])
            assert network.num_classes == classes
    cifar100 = entries.load("cifar100-resnet18-seed").to_json()
    value = cifar100 | {
        "architecture": "cnn-l",
        "schedule": None,
        "augment": None,
        "preprocessing": cifar100["preprocessing"],
    }
    spec = ZooSpec.from_json(value)
    assert spec.num_classes == 100
    assert spec.network("relu", dropout=False).num_classes == 100


def test_a_unit_is_a_power_of_two_by_the_work_of_a_sample() -> None:
    """The rule is frozen: runs pin their units, and the same list has the same units on every machine."""

    def size(layers: list[Any]) -> int:
        return units_of(spec_of(layers))

    assert size(LAYERS) == 64
    assert size(["flatten", "dropout", {"linear": {"features": "classes"}}, "activation"]) == 1024
    conv = {"conv": {"channels": 256, "kernel": 5}}
    big = [conv, "activation", "dropout", conv, {"avg_pool": "global"}, {"linear": {"features": "classes"}}]
    assert size(big) == 16
    named = architecture("cnn-s", 1, "relu", False)
    assert isinstance(named, Architecture)
    assert unit_models(named) == 256


def test_a_list_has_twins_of_both_kinds() -> None:
    from zooforge.zoo_jobs.spec.blocks import SparsifySpec

    spec = spec_of(LAYERS)
    for settings in (SparsifySpec(method="variational-dropout"), SparsifySpec(method="magnitude", sparsity_ratio=0.9)):
        assert twins_of(spec, settings).root is spec


def test_the_schema_accepts_a_list() -> None:
    import jsonschema

    jsonschema.validate(spec_of(LAYERS).to_json(), json_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(
            GOOD | {"architecture": {"layers": [{"conv": {"channels": 3, "groups": 2}}]}}, json_schema()
        )


def test_lists_are_values() -> None:
    network = spec_of(LAYERS).architecture
    assert isinstance(network, LayerList)
    assert {network, spec_of(LAYERS).architecture} == {network}


def test_the_start_of_the_weights_is_part_of_the_run_only_where_it_is_not_the_usual() -> None:
    plain = ZooSpec.from_json(GOOD)
    assert ZooSpec.from_json(GOOD | {"initializer_scale": 1.0, "initial_bias": 0.01}).run_id == plain.run_id
    changes = {"initializer_scale": 0.5, "initial_bias": 0.0}
    others = [ZooSpec.from_json(GOOD | {name: value}) for name, value in changes.items()]
    assert len({plain.run_id, *(spec.run_id for spec in others)}) == 3
    digests = [rows(spec)[0].digest for spec in (plain, *others)]
    assert len(set(digests)) == 3
    assert [note for spec in others for note in describe(spec).notes] == [
        *plain.conflicts, "The initial weights of every model are its initializer's times 0.5.",
        *plain.conflicts, "The initial biases of every model are 0.",
    ]  # fmt: skip
    with pytest.raises(InputError, match="initializer_scale is 0"):
        ZooSpec.from_json(GOOD | {"initializer_scale": 0.0})
