"""Models that learn one image each: the spec, what a sample is, and training in every engine that runs the task."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.image_learners import SPEC, growth, images, learners
from zooforge.storage.formats.labels import Values, derive
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.engines.lanes import LanesEngine
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.engines.stacked import StackedEngine
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.models.initialize import initial_weights
from zooforge.zoo_jobs.models.layers import Activation, Architecture
from zooforge.zoo_jobs.models.torch_module import state_dict, torch_module
from zooforge.zoo_jobs.publishing.describe import describe
from zooforge.zoo_jobs.running.inputs import Run
from zooforge.zoo_jobs.spec.grid import check_extends, rows
from zooforge.zoo_jobs.spec.overrides import with_overrides
from zooforge.zoo_jobs.spec.zoo import ZooSpec
from zooforge.zoo_jobs.tasks.image_regression import coordinates, targets

MODELS = (0, 1, 2, 3, 4)


def program(spec: ZooSpec) -> Any:
    run = Run(spec)
    return run.program(run.rows[0].family)


ENGINES = [
    e for e in (SequentialEngine("cpu"), StackedEngine("cpu"), LanesEngine()) if not e.refuses(program(learners()))
]
EACH_ENGINE = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: str(engine.name))


def test_pixels_go_row_by_row_from_minus_1_to_1() -> None:
    expected = [[-1, -1], [-1, 0], [-1, 1], [0, -1], [0, 0], [0, 1], [1, -1], [1, 0], [1, 1]]
    assert coordinates(3).dtype == np.float32
    assert coordinates(3).tolist() == expected
    assert coordinates(1).tolist() == [[0, 0]]
    assert coordinates(28)[29].tolist() == [np.float32(-25 / 27), np.float32(-25 / 27)]
    assert np.array_equal(coordinates(28), -coordinates(28)[::-1])


def test_targets_are_the_bytes_over_255_in_the_order_of_the_coordinates() -> None:
    data = images(learners())
    table = data.pixel_values
    assert table.tobytes() == (np.arange(256, dtype=np.float32) / np.float32(255))[None].tobytes()
    pixels = targets(data.train.images[:2], table)
    assert pixels.shape == (2, 64, 1)
    assert pixels[1, 8 * 3 + 5, 0] == np.float32(data.train.images[1, 0, 3, 5]) / np.float32(255)
    colour = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert targets(colour, np.repeat(table, 3, axis=0))[1].tolist() == [table[0, 1], table[0, 5], table[0, 9]]


def test_the_image_is_the_slowest_axis_and_more_images_append_models() -> None:
    few, more = learners(image="2:4", seeds="1:3"), learners(image="2:6", seeds="1:3")
    assert [(row.image, row.seed) for row in rows(few)] == [(2, 1), (2, 2), (3, 1), (3, 2)]
    assert few.run_id == more.run_id
    check_extends(few, more)
    with pytest.raises(InputError, match="model 0 would be image 0 instead of 2"):
        check_extends(few, learners(image="0:4", seeds="1:3"))
    own = rows(learners(seeds="random", seed_salt=3, seeds_per_cell=1))
    assert len({row.seed for row in own}) == len(own) == 6
    assert len({row.digest for row in rows(learners())}) == 6


def test_the_task_enters_the_digest_only_where_it_is_not_classification() -> None:
    plain = entries.load("mnist5k-cnn-s")
    assert not {"task", "steps_per_epoch", "image"} & set(plain.run_content)
    content = learners().run_content
    assert (content["task"], content["steps_per_epoch"], content["batch_size"]) == ("image_regression", 5, 64)
    assert "image" not in content
    assert learners(steps_per_epoch=6).run_id != learners().run_id


def test_a_spec_survives_json_without_what_follows_from_the_task() -> None:
    spec = learners()
    value = json.loads(json.dumps(spec.to_json()))
    assert not {"split", "batch_size"} & set(value)
    assert ZooSpec.from_json(value) == spec
    assert with_overrides(spec, ["preprocessing.resize=6"], name="smaller").batch_size == 36


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"task": "regression"},
            "unknown task 'regression'; did you mean 'image_regression'? accepted: classification, image",
        ),
        ({"image": None}, 'image is required with task image_regression, e.g. image: "0:5000"'),
        ({"image": "5:5"}, "image: it is a half-open range of images such as \"0:5000\", found '5:5'"),
        ({"image": "0:1798"}, "image 0:1798: the data set has the images 0:1797"),
        ({"steps_per_epoch": None}, "steps_per_epoch is required with task image_regression"),
        ({"batch_size": 10}, "batch_size: a step takes all 64 pixels of an image; leave batch_size out"),
        ({"split": {"train": 10, "val": 1, "test": 2, "seed": 1}}, "split: a model learns one image"),
        ({"preprocessing": {"mean": [0.5], "std": [1.0]}}, "preprocessing: pixels are byte / 255"),
        ({"augment": "crop-flip"}, "augment: the task image_regression does not have it"),
        ({"extend": [{"learning_rate": [0.1]}]}, "extend: the task image_regression does not have it"),
        ({"architecture": "cnn-s"}, "architecture: the task image_regression takes a list of layers, found cnn-s"),
        (
            {"axes": SPEC["axes"] | {"dropout_ratio": [0.5]}},
            "axes.dropout_ratio: the task image_regression does not have it",
        ),
        ({"sparsify": {"method": "variational-dropout"}}, "sparsify.method: variational-dropout is defined for"),
        (
            {"architecture": {"layers": [{"linear": {"features": "classes"}}]}},
            "architecture.layers[0].linear: features: the outputs of this task are channels, found classes",
        ),
        (
            {"architecture": {"layers": [{"linear": {"features": 3}}]}},
            "architecture.layers[0]: the last layer gives [3], expected one value per channel, [1]; "
            "end with linear: {features: channels}",
        ),
        (
            {
                "architecture": {
                    "layers": [{"conv": {"channels": 4, "kernel": 1}}, {"linear": {"features": "channels"}}]
                }
            },
            "architecture.layers[0].conv: it takes images",
        ),
        (
            {"architecture": {"layers": [{"linear": {"features": "channels"}}]}},
            "siren needs a layer {activation: {name: sine, omega: 30}}",
        ),
    ],
)
def test_what_the_task_does_not_have_is_refused_by_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        ZooSpec.from_json(SPEC | fields, "mine.yaml")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image": "0:5"}, "image belongs to task image_regression, this zoo's is classification"),
        ({"steps_per_epoch": 5}, "steps_per_epoch belongs to task image_regression"),
        (
            {"axes": entries.load("mnist5k-cnn-s").to_json()["axes"] | {"initializer": ["siren"]}},
            "initializer: the task classification has no siren",
        ),
        ({"split": {"train": 10, "val": 1, "test": 0, "seed": 1}, "batch_size": 2}, "split.test: no image would test"),
    ],
)
def test_classification_refuses_what_belongs_to_the_other_task(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ZooSpec.from_json(entries.load("mnist5k-cnn-s").to_json() | fields)


def test_siren_draws_weights_by_the_omega_of_their_sine_and_leaves_torchs_biases() -> None:
    spec = learners()
    network = spec.network("identity", dropout=False)
    assert isinstance(network, Architecture)
    assert network.shapes[0] == (2,)
    tensors = network.layout.unflatten(initial_weights(network, "siren", 7))
    for name, bound in (("linear1", 1 / 2), ("linear2", np.sqrt(6 / 16) / 30), ("linear3", np.sqrt(6 / 16) / 30)):
        largest = np.abs(tensors[f"{name}.weight"]).max()
        assert 0.8 * bound < largest <= np.float32(bound)
    for name, inputs in (("linear1", 2), ("linear2", 16)):
        biases = np.abs(tensors[f"{name}.bias"])
        assert 0.7 / np.sqrt(inputs) < biases.max() <= 1 / np.sqrt(inputs)
    twice = network.layout.unflatten(initial_weights(network, "siren", 7, scale=2.0))
    assert np.array_equal(twice["linear1.weight"], 2 * tensors["linear1.weight"])
    assert np.array_equal(twice["linear1.bias"], tensors["linear1.bias"])


def test_models_of_one_image_are_in_one_split_whatever_their_zoo() -> None:
    from zooforge.storage.publish.zoo_tables import splits_of

    shared = describe(learners(image="0:40"))
    own = describe(learners(name="other", image="10:40", seeds="random", seed_salt=1, seeds_per_cell=2))
    by_image = dict(zip(range(40), splits_of(shared, range(40)), strict=True))
    assert splits_of(own, range(60)) == [by_image[10 + model // 2] for model in range(60)]
    assert set(by_image.values()) == {"train", "val", "test"}


def test_psnr_follows_from_the_error_and_an_exact_image_has_none() -> None:
    mse = Values(np.array([0.01, 0.0, 0.5, 0.0]), np.array([True, True, True, False]))
    derived = derive({"train_mse": mse})
    psnr, exact = derived["psnr"], derived["exact"]
    assert psnr.valid is not None and exact.valid is not None
    assert psnr.data.tolist() == [20.0, 0.0, 3.0103, 0.0]
    assert psnr.valid.tolist() == [True, False, True, False]
    assert exact.data.tolist() == [False, True, False, False]
    assert exact.valid.tolist() == [True, True, True, False]


def test_a_psnr_near_the_middle_of_two_decimals_is_rounded_exactly() -> None:
    from decimal import Context, Decimal

    middle = Context(prec=50).power(10, Decimal("-3.14159265") / 10)
    near = [float(np.nextafter(float(middle), side)) for side in (0.0, 1.0)]
    found = derive({"train_mse": Values(np.array(near), None)})["psnr"].data
    assert found.tolist() == [round(float(Context(prec=50).log10(Decimal(m)) * -10), 6) for m in near]


@EACH_ENGINE
def test_a_step_follows_the_gradient_in_float64(engine: Any) -> None:
    """One step of SGD with rate 1 moves the weights by the gradient of the mean squared error."""
    axes = SPEC["axes"] | {"optimizer": ["sgd"], "learning_rate": [1.0]}
    spec = learners(axes=axes, steps_per_epoch=1)
    grown = growth(spec, engine, MODELS)
    before = grown.state()["weights"]
    first = grown.step(0, clean_train=False).labels["train_mse"]
    running = grown.step(1, clean_train=False).labels["running_train_mse"]
    moved = grown.state()["weights"].astype(np.float64) - before
    network, data = spec.network("identity", dropout=False), images(spec)
    inputs = torch.from_numpy(coordinates(8)).double()
    for model in MODELS:
        module = torch_module(network)
        module.load_state_dict(state_dict(network, before[model]), strict=True)
        module.double()
        pixels = torch.from_numpy(targets(data.train.images[model], data.pixel_values)).double()
        loss = torch.nn.functional.mse_loss(module(inputs), pixels)
        loss.backward()
        gradient = torch.cat([p.grad.reshape(-1) for p in module.parameters() if p.grad is not None]).numpy()
        assert np.abs(moved[model] + gradient).max() < 2e-5 * np.abs(gradient).max()
        assert first[model] == pytest.approx(loss.item(), rel=1e-5)
        assert running[model] == pytest.approx(loss.item(), rel=1e-5)
    assert grown.state()["step"].tolist() == [1] * len(MODELS)


@EACH_ENGINE
def test_training_is_that_of_sequential(engine: Any) -> None:
    spec = learners()
    expected, found = growth(spec, SequentialEngine("cpu"), MODELS), growth(spec, engine, MODELS)
    for epoch in range(3):
        one, other = expected.step(epoch, False), found.step(epoch, False)
        np.testing.assert_allclose(other.fields[""], one.fields[""], atol=2e-4)
        np.testing.assert_allclose(other.labels["train_mse"], one.labels["train_mse"], rtol=2e-3)
    assert found.state()["step"].tolist() == [10] * len(MODELS)
    assert found.step(3, False).samples == len(MODELS) * 5 * 64


@pytest.mark.parametrize("engine", [e for e in ENGINES if e.bitwise(program(learners()))], ids=lambda e: str(e.name))
def test_no_byte_depends_on_chunks_or_interruption(engine: Any) -> None:
    spec = learners()
    whole, chunked = growth(spec, engine, MODELS), growth(spec, engine, MODELS, chunk=2)
    alone = growth(spec, engine, (3,))
    for epoch in range(3):
        results = [part.step(epoch, False) for part in (whole, chunked, alone)]
        assert results[0].fields[""].tobytes() == results[1].fields[""].tobytes()
        assert results[0].fields[""][3].tobytes() == results[2].fields[""][0].tobytes()
        for name, values in results[0].labels.items():
            assert np.ma.allequal(values, results[1].labels[name]), name
        if epoch == 1:
            again = growth(spec, engine, MODELS, state=whole.state())
    assert again.step(2, False).fields[""].tobytes() == results[0].fields[""].tobytes()


def test_errors_fall_and_a_model_that_diverges_is_frozen_with_null_errors() -> None:
    spec = learners(axes=SPEC["axes"] | {"learning_rate": [1e-3, 1e30], "optimizer": ["sgd"]}, image="0:1")
    grown = growth(spec, SequentialEngine("cpu"), (0, 1))
    results = [grown.step(epoch, False).labels for epoch in range(4)]
    errors = [float(labels["train_mse"][0]) for labels in results]
    assert errors == sorted(errors, reverse=True)
    assert results[0]["running_train_mse"].mask.all()
    assert results[-1]["train_mse"].mask.tolist() == [False, True]
    assert results[-1]["faulty_epoch"].tolist() == [None, 1]


def test_the_sine_of_the_published_network_is_that_of_the_list() -> None:
    layers = describe(learners()).layers["plain"]
    assert layers[1] == {"type": "activation", "name": "sine", "omega": 30.0}
    network = learners().network("identity", dropout=False)
    assert network.layers is not None and network.layers[1] == Activation("sine", 30.0)
