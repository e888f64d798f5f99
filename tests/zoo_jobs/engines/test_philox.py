"""philox.py computes the values of docs/determinism.md."""

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import gaussian_noise
from tests.support.paths import ROOT
from zooforge.zoo_jobs.engines import philox
from zooforge.zoo_jobs.engines.subsets import training_labels, training_rows

DOCUMENT = ROOT / "docs" / "determinism.md"


def documented(kind: str) -> list[dict[str, Any]]:
    (text,) = re.findall(r"```json\n(.*?)\n```", DOCUMENT.read_text(encoding="utf-8"), re.S)
    vectors = [vector for vector in json.loads(text) if vector["kind"] == kind]
    assert vectors
    return vectors


def hexadecimal(words: Any) -> list[str]:
    return [f"{int(word):08x}" for word in words]


def uint32(words: list[str]) -> Any:
    return np.array([[int(word, 16) for word in words]], np.uint32)


@pytest.mark.parametrize("vector", documented("block"))
def test_the_known_answers_of_random123_are_met(vector: dict[str, Any]) -> None:
    assert hexadecimal(philox.blocks(uint32(vector["counter"]), uint32(vector["key"]))[0]) == vector["words"]


@pytest.mark.parametrize("vector", documented("words"))
def test_keys_and_counters_are_laid_out_as_documented(vector: dict[str, Any]) -> None:
    drawn = philox.words(
        vector["seed"],
        philox.Purpose(vector["purpose"]),
        epoch=vector["epoch"],
        step=vector["step"],
        stream=vector["stream"],
        num_words=len(vector["words"]),
    )
    assert hexadecimal(drawn) == vector["words"]
    counter = np.array([[0, vector["step"], vector["epoch"], vector["stream"]]], np.uint32)
    key = np.array([[vector["seed"], vector["purpose"]]], np.uint32)
    assert hexadecimal(philox.blocks(counter, key)[0]) == vector["words"][:4]


@pytest.mark.parametrize("vector", documented("permutation"))
def test_permutations_are_those_of_the_document(vector: dict[str, Any]) -> None:
    assert philox.permutation(vector["seed"], vector["epoch"], vector["num_rows"]).tolist() == vector["order"]


@pytest.mark.parametrize("vector", documented("subset"))
def test_subsets_are_those_of_the_document(vector: dict[str, Any]) -> None:
    assert training_rows(vector["seed"], vector["fraction"], vector["num_rows"]).tolist() == vector["rows"]


@pytest.mark.parametrize("vector", documented("label"))
def test_wrong_labels_are_those_of_the_document(vector: dict[str, Any]) -> None:
    labels = np.array(vector["labels"], np.uint8)
    assert training_labels(vector["seed"], vector["noise"], labels, vector["classes"]).tolist() == vector["told"]


@pytest.mark.parametrize("vector", documented("dropout"))
def test_dropout_masks_are_those_of_the_document(vector: dict[str, Any]) -> None:
    kept = vector["kept"]
    mask = philox.keep_mask(
        vector["seed"],
        epoch=vector["epoch"],
        step=vector["step"],
        layer=vector["layer"],
        num_samples=len(kept),
        num_values=len(kept[0]),
        ratio=vector["ratio"],
    )
    assert ["".join("01"[int(x)] for x in row) for row in mask] == kept
    assert philox.dropout_threshold(vector["ratio"]) == vector["threshold"]
    assert float(philox.dropout_scale(vector["ratio"])).hex() == vector["scale"]


@pytest.mark.parametrize("vector", documented("noise"))
def test_noise_is_that_of_the_document(vector: dict[str, Any]) -> None:
    gaussians = np.array(vector["gaussians"])
    num_samples, num_values = gaussians.shape
    where = {"epoch": vector["epoch"], "step": vector["step"]}
    words = philox.words(
        vector["seed"],
        philox.Purpose.NOISE,
        **where,
        stream=philox.sample_streams(vector["layer"], num_samples),
        num_words=2 * len(vector["u"][0]),
    )
    u, v = philox.uniform_pairs(words)
    assert [[float(x).hex() for x in row] for row in u] == vector["u"]
    assert [[float(x).hex() for x in row] for row in v] == vector["v"]
    noise = gaussian_noise.gaussians(
        vector["seed"], **where, layer=vector["layer"], num_samples=num_samples, num_values=num_values
    )
    np.testing.assert_allclose(noise, gaussians, rtol=4 * 2.0**-23, atol=1e-7)


@given(
    seeds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4),
    epoch=st.integers(1, 1000),
    num_rows=st.integers(1, 300),
)
def test_a_permutation_does_not_depend_on_its_neighbours(seeds: list[int], epoch: int, num_rows: int) -> None:
    together = philox.permutation(np.array(seeds, np.uint32), epoch, num_rows)
    for seed, order in zip(seeds, together, strict=True):
        assert sorted(order) == list(range(num_rows))
        assert np.array_equal(order, philox.permutation(seed, epoch, num_rows))


@given(num_steps=st.integers(1, 5), num_samples=st.integers(1, 7), num_values=st.integers(1, 50))
def test_masks_of_many_steps_are_the_masks_of_each_step(num_steps: int, num_samples: int, num_values: int) -> None:
    sizes = {"layer": 1, "num_samples": num_samples, "num_values": num_values, "ratio": 0.3}
    together = philox.keep_mask(5, epoch=2, step=np.arange(num_steps), **sizes)
    assert together.shape == (num_steps, num_samples, num_values)
    for step, mask in enumerate(together):
        assert np.array_equal(mask, philox.keep_mask(5, epoch=2, step=step, **sizes))
        assert np.array_equal(mask[:1], philox.keep_mask(5, epoch=2, step=step, **{**sizes, "num_samples": 1}))


def test_the_tile_size_does_not_change_results(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw() -> Any:
        seeds = np.array([[3], [4]], np.uint32)
        return philox.words(seeds, philox.Purpose.NOISE, epoch=1, step=np.arange(3), stream=7, num_words=30)

    whole = draw()
    monkeypatch.setattr(philox, "TILE_BLOCKS", 5)
    assert np.array_equal(draw(), whole)


def test_uniforms_stay_in_their_intervals_at_the_ends() -> None:
    u, v = philox.uniform_pairs(np.array([0, 0, 0xFFFFFFFF, 0xFFFFFFFF], np.uint32))
    assert u.tolist() == [2.0**-25, 1.0]
    assert v.tolist() == [0.0, 1 - 2.0**-24]
    assert np.isfinite(gaussian_noise.box_muller(np.array([0, 0, 0xFFFFFFFF, 0xFFFFFFFF], np.uint32))).all()


def test_noise_has_the_moments_of_a_standard_normal() -> None:
    g = gaussian_noise.gaussians(1, epoch=1, step=0, layer=0, num_samples=10, num_values=20_000).astype(np.float64)
    assert abs(g.mean()) < 0.01
    assert abs(g.std() - 1) < 0.01
    assert abs((g**3).mean()) < 0.05
    assert abs((g**4).mean() - 3) < 0.1


def test_purposes_and_layers_do_not_share_words() -> None:
    drawn = [
        philox.words(1, purpose, epoch=epoch, step=step, stream=stream, num_words=8).tobytes()
        for purpose in philox.Purpose
        for epoch, step, stream in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1))
    ]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("ratio", [-0.1, 1.0, float("nan")])
def test_a_ratio_outside_zero_to_one_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="dropout ratio"):
        philox.dropout_threshold(ratio)
