"""The engine's own functions: accuracy in ulp, special values, and the words of docs/determinism.md."""

import json
import re
from pathlib import Path

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from tests.support.lanes_cases import INSTRUCTION_SETS, catalogue_case, run
from zooforge.zoo_jobs.engines import philox
from zooforge.zoo_jobs.engines.lanes.engine import extension

VECTORS = json.loads(
    re.findall(r"```json\n(.*?)```", Path("docs/determinism.md").read_text(), re.DOTALL)[-1]  # run from the root
)


def native(name: str, x: NDArray[np.float32], isa: str = INSTRUCTION_SETS[0]) -> NDArray[np.float32]:
    y = np.empty_like(x)
    extension().function(isa, name, x, y)
    return y


def ulps(found: NDArray[np.float32], exact: NDArray[np.float64]) -> float:
    unit = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    normal = np.abs(exact) > 2.0**-126
    return float((np.abs(found - exact) / unit)[normal].max())


def gelu_derivative(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return special.ndtr(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def silu_derivative(x: NDArray[np.float64]) -> NDArray[np.float64]:
    s = special.expit(x)
    return s * (1 + x * (1 - s))


FUNCTIONS = {
    # name: reference in double, range, tolerated ulp (docs/lanes.md has the measured ones)
    "exp": (np.exp, -87.0, 88.7, 1.5),
    "log": (np.log, 1e-6, 1e6, 1.5),
    "tanh": (np.tanh, -12.0, 12.0, 3.0),
    "sigmoid": (special.expit, -30.0, 30.0, 3.0),
    "normal_cdf": (special.ndtr, -12.0, 8.0, 8.0),
    "gelu": (lambda x: x * special.ndtr(x), -12.0, 12.0, 8.0),
    "silu": (lambda x: x * special.expit(x), -30.0, 30.0, 3.5),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_accurate_to_a_few_ulp(name: str) -> None:
    reference, low, high, tolerance = FUNCTIONS[name]
    x = np.linspace(low, high, 400_001).astype(np.float32)
    small = np.geomspace(1e-7, 1, 100_000).astype(np.float32)
    x = np.concatenate([x, small, -small if low < 0 else small])
    assert ulps(native(name, x), reference(x.astype(np.float64))) < tolerance


def test_derivatives_are_accurate_where_they_cross_zero() -> None:
    x = np.linspace(-10, 10, 200_001).astype(np.float32)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(native("gelu_derivative", x), gelu_derivative(exact), atol=4e-7, rtol=0)
    np.testing.assert_allclose(native("silu_derivative", x), silu_derivative(exact), atol=1e-6, rtol=0)


def test_the_lower_tail_of_the_normal_does_not_cancel() -> None:
    """Compared with 50 digits, where 1 + erf has no correct digit left."""
    with mpmath.workdps(50):
        for x in (-3.0, -5.0, -8.0, -12.0):
            exact = float(mpmath.ncdf(x))
            assert abs(float(native("normal_cdf", np.array([x], np.float32))[0]) / exact - 1) < 1e-6


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_special_values_come_out_as_ieee_says(isa: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30], np.float32)
    expected = {
        "exp": [np.nan, np.inf, 0, 1, 1, np.inf, 0],
        "tanh": [np.nan, 1, -1, 0, 0, 1, -1],
        "sigmoid": [np.nan, 1, 0, 0.5, 0.5, 1, 0],
        "normal_cdf": [np.nan, 1, 0, 0.5, 0.5, 1, 0],
    }
    for name, at_zero in (("sine", 0), ("cosine", 1)):
        found = native(name, x, isa)
        assert np.isnan(found[:3]).all() and found[3] == found[4] == at_zero and np.isfinite(found[5:]).all()
    for name, values in expected.items():
        np.testing.assert_array_equal(native(name, x, isa), np.array(values, np.float32), err_msg=name)
    assert np.array_equal(native("log", np.array([1.0, np.inf], np.float32), isa), [0, np.inf])


def test_sine_and_cosine_are_accurate_up_to_a_million_and_the_same_beyond() -> None:
    turns = np.arange(1, 667_000) * (np.pi / 2)  # includes the neighbourhood of every zero of both functions
    x = np.concatenate([np.linspace(-1e3, 1e3, 400_001), np.geomspace(1e-7, 2**20, 400_000), turns]).astype(np.float32)
    exact = x.astype(np.float64)
    for name, reference in (("sine", np.sin), ("cosine", np.cos)):
        assert ulps(native(name, x), reference(exact)) < 2.0
        assert np.array_equal(native(name, -x), native(name, x) * np.float32(-1 if name == "sine" else 1))
        beyond = native(name, np.array([2**20, 2e6, 3e38], np.float32))
        assert beyond[0] == beyond[1] == beyond[2]


@pytest.mark.parametrize("name", [*FUNCTIONS, "gelu_derivative", "silu_derivative", "kl", "sine", "cosine"])
def test_every_instruction_set_computes_the_same_bits(name: str) -> None:
    low, high = (1e-6, 1e6) if name == "log" else (-10.0, 10.0) if name == "kl" else (-90.0, 90.0)
    x = np.linspace(low, high, 100_003).astype(np.float32)
    outputs = {native(name, x, isa).tobytes() for isa in INSTRUCTION_SETS}
    assert len(outputs) == 1


def test_batch_orders_are_the_specified_permutations() -> None:
    for vector in (v for v in VECTORS if v["kind"] == "permutation"):
        order = np.empty(vector["num_rows"], np.uint32)
        extension().batch_order(vector["seed"], vector["epoch"], order)
        assert order.tolist() == vector["order"]
    order = np.empty(60_000, np.uint32)
    extension().batch_order(12345, 7, order)
    assert np.array_equal(order, philox.permutation(12345, 7, 60_000))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_noise_is_the_specified_one_within_four_ulp(isa: str) -> None:
    for vector in (v for v in VECTORS if v["kind"] == "noise"):
        for sample, expected in enumerate(vector["gaussians"]):
            found = np.empty(len(expected), np.float32)
            place = (vector["seed"], vector["step"], vector["epoch"], vector["layer"], sample)
            extension().noise(isa, *place, found)
            exact = np.array(expected)
            assert (np.abs(found - exact) <= 4 * np.spacing(np.abs(exact).astype(np.float32)) + 1e-8).all()
    many = np.empty(100_000, np.float32)
    extension().noise(isa, 3, 1, 1, 0, 5, many)
    words = philox.words(3, philox.Purpose.NOISE, epoch=1, step=1, stream=5, num_words=100_000)
    u, v = (a.astype(np.float64) for a in philox.uniform_pairs(words))
    exact = np.stack([np.cos(2 * np.pi * v), np.sin(2 * np.pi * v)], axis=-1) * np.sqrt(-2 * np.log(u))[:, None]
    np.testing.assert_allclose(many, exact.reshape(-1), rtol=4e-7, atol=4e-7)


def test_flushing_denormals_stays_inside_the_engine() -> None:
    extension().noise(INSTRUCTION_SETS[0], 1, 1, 1, 0, 0, np.empty(4, np.float32))
    run(catalogue_case("cnn-s ch1", "tanh", "adam", "plain", num_models=1), epochs=[1])
    assert np.float32(1e-38) / np.float32(10) > 0
