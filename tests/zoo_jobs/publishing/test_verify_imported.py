"""`zoo verify` evaluates imported zoos on the images of a similar zoo, or says why it cannot."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.synthetic import ATTEMPT, description, part_data, weights
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.runs.commit import commit_part
from zooforge.storage.stores.open import open_store
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.data.prepared import PreparedData, Split
from zooforge.zoo_jobs.models.registry import Architecture, architecture
from zooforge.zoo_jobs.models.torch_module import state_dict, torch_module
from zooforge.zoo_jobs.publishing.recompute import count_correct, recompute

RUN = "ee" * 16  # no spec has this run id
NUM_TEST = 500  # as mnist5k has in the catalogue


def data() -> PreparedData:
    random = np.random.default_rng(0)
    images = Split(
        random.integers(0, 256, (NUM_TEST, 1, 28, 28), dtype=np.uint8), np.arange(NUM_TEST, dtype=np.uint8) % 10
    )
    table = (np.arange(256, dtype=np.float32)[None] / 255 - 0.5) / 0.5
    return PreparedData("random", 10, table.astype(np.float32), images, images, images)


def imported(store: ObjectStore, dataset: str = "mnist5k") -> None:
    """Publish two models without and two with dropout; the label of the last one claims three images too many."""
    torch.set_num_threads(1)
    networks: dict[bool, Any] = {drop: architecture("cnn-s", 1, "tanh", drop) for drop in (False, True)}
    plain: Architecture = networks[False]
    correct = []
    for model in range(4):
        network = networks[model % 2 == 1]
        module = torch_module(network, 0.5 * (model % 2))
        module.load_state_dict(state_dict(network, weights(model, 0, plain.layout.size)))
        correct.append(count_correct(module, data(), data().test) + 3 * (model == 3))
    part = part_data(range(4), 0, size=plain.layout.size)
    labels = {**part.labels, "test_correct": np.array(correct), "test_count": np.full(4, NUM_TEST)}
    commit_part(store, RUN, replace(part, labels=labels), ATTEMPT)
    described = replace(
        description("brought", num_models=4, layout=plain.layout, architecture="cnn-s"),
        dataset=dataset,
        image_size=28,
        num_classes=10,
        rows={m: {**row, "activation": "tanh"} for m, row in description(num_models=4).rows.items()},
        state_dict_names={"plain": plain.state_dict_names, "dropout": networks[True].state_dict_names},
    )
    vectorize(store, described, RUN)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path))


def test_an_imported_zoo_is_evaluated_on_the_images_of_a_zoo_like_it(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported(store)
    monkeypatch.setattr("zooforge.zoo_jobs.publishing.recompute.load", lambda *_: data())
    checks = recompute(store.url, "brought", 10)
    assert [(c.model, c.outcome) for c in checks] == [(0, "equal"), (1, "equal"), (2, "equal"), (3, "differs")]


def test_a_zoo_with_unknown_images_is_not_recomputed(store: ObjectStore) -> None:
    imported(store, dataset="unknown")
    (check,) = recompute(store.url, "brought", 10)
    assert check.outcome == "not recomputed" and "no zoo of cnn-s on unknown" in check.detail


def test_the_command_reports_it_and_does_not_retrain(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(store)
    monkeypatch.setattr("zooforge.zoo_jobs.publishing.recompute.load", lambda *_: data())
    folder = store.url.removeprefix("file://")
    assert main(["verify", "brought", "--store", folder, "--deep", "--json"]) == 1
    outcomes = [check["outcome"] for check in json.loads(capsys.readouterr().out)["checks"]]
    assert outcomes == ["equal", "equal", "equal", "differs", "not recomputed"]
    assert main(["verify", "brough", "--store", folder]) == 2
