"""Initial weights: the reference's bits with the same build of torch, its distributions with any build."""

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.models.initialize import BIAS, initial_buffers, initial_weights
from zooforge.zoo_jobs.models.orthogonal import _orthonormalise, orthogonal_
from zooforge.zoo_jobs.models.registry import INITIALIZERS, OF_NETWORKS, architecture

ANCHOR_BUILD = "2.13.0+cpu"
ANCHORS = [
    ("cnn-s", 1, "uniform", 1, (0.933605, 0.56721, 0.398433), "c9feec2d98e41fa5"),
    ("cnn-s", 1, "uniform", 2, (0.316228, 0.607198, 0.12907), "fd9bbf1009b79cbb"),
    ("cnn-s", 1, "normal", 1, (-0.757526, -0.732514, -0.602883), "08cf1b666e0c8118"),
    ("cnn-s", 1, "kaiming_uniform", 1, (0.424844, 0.065852, -0.099515), "86009d6c6e40cd49"),
    ("cnn-s", 1, "kaiming_normal", 1, (-0.214261, -0.207186, -0.170521), "74b870e234c3e0ff"),
    ("cnn-s", 3, "kaiming_uniform", 1, (-0.227339, -0.194911, -0.210455), "7d53ee56aafb7540"),
    ("cnn-l", 3, "kaiming_uniform", 1, (-0.35109, -0.452555, -0.390912), "9a3a7d35f5d9a461"),
    # Not the reference's record: torchvision 0.28 run with the stem replaced and the initialisers as described.
    ("resnet18", 3, "kaiming_uniform", 1, (-0.1585973, 0.18673633, -0.388058), "9bc9dc2ce4cfca3b"),
]


@pytest.mark.parametrize(("name", "channels", "initializer", "seed", "first", "digest"), ANCHORS)
def test_initial_weights_are_the_references_bit_for_bit(
    name: str, channels: int, initializer: str, seed: int, first: tuple[float, ...], digest: str
) -> None:
    vector = initial_weights(architecture(name, channels, "tanh", False), initializer, seed)
    if torch.__version__ != ANCHOR_BUILD:
        pytest.skip(f"anchors were recorded with torch {ANCHOR_BUILD}, this is {torch.__version__}: moments only")
    np.testing.assert_allclose(vector[:3], first, rtol=0, atol=6e-7)
    assert hashlib.sha256(vector.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize(("classes", "initializer", "seed", "digest"), [
    (100, "kaiming_uniform", 2, "5fc9dbae18606f65"),
    (200, "normal", 1, "2f83ad4e09c4794a"),
])  # fmt: skip
def test_the_number_of_classes_moves_the_generator_as_in_torchvision(
    classes: int, initializer: str, seed: int, digest: str
) -> None:
    if torch.__version__ != ANCHOR_BUILD:
        pytest.skip(f"anchors were recorded with torch {ANCHOR_BUILD}, this is {torch.__version__}: moments only")
    vector = initial_weights(architecture("resnet18", 3, "relu", False, num_classes=classes), initializer, seed)
    assert hashlib.sha256(vector.tobytes()).hexdigest()[:16] == digest


REFERENCE_INITIALIZERS = (
    "uniform", "normal", "kaiming_uniform", "kaiming_normal", "xavier_uniform", "xavier_normal",
)  # fmt: skip


OF_LAYERS = [name for name in INITIALIZERS if name not in OF_NETWORKS]


def moments(initializer: str, fan_in: int, fan_out: int) -> tuple[float, float]:
    """Mean and standard deviation that the initializer states."""
    return {
        "uniform": (0.5, math.sqrt(1 / 12)),
        "normal": (0.0, 1.0),
        "kaiming_uniform": (0.0, math.sqrt(2 / fan_in)),
        "kaiming_normal": (0.0, math.sqrt(2 / fan_in)),
        "xavier_uniform": (0.0, math.sqrt(2 / (fan_in + fan_out))),
        "xavier_normal": (0.0, math.sqrt(2 / (fan_in + fan_out))),
        # variance of a standard normal between -2 and 2: 1 - 2 * 2 * phi(2) / (2 * Phi(2) - 1)
        "truncated_normal": (0.0, math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))),
    }[initializer]


def test_every_initializer_fills_all_weights_and_repeats_itself_by_seed() -> None:
    network = architecture("cnn-s", 3, "relu", False)
    for initializer in OF_LAYERS:
        first = initial_weights(network, initializer, 1)
        assert np.isfinite(first).all()
        assert np.count_nonzero(first) > 0.99 * first.size
        assert np.array_equal(first, initial_weights(network, initializer, 1))
        assert not np.array_equal(first, initial_weights(network, initializer, 2))


@pytest.mark.parametrize("initializer", [*REFERENCE_INITIALIZERS, "truncated_normal"])
@pytest.mark.parametrize("name", ["cnn-s", "cnn-l"])
def test_initial_weights_have_the_stated_moments_and_biases(name: str, initializer: str) -> None:
    network = architecture(name, 3, "relu", False)
    vectors = np.stack([initial_weights(network, initializer, seed) for seed in range(1, 31)]).astype(np.float64)
    for entry_name, values in network.layout.unflatten(vectors).items():
        if entry_name.endswith("bias"):
            assert (values == np.float32(BIAS)).all()
            continue
        outputs, fan_in = values.shape[1], math.prod(values.shape[2:])
        mean, std = moments(initializer, fan_in, outputs * math.prod(values.shape[3:]))
        error = std / math.sqrt(values.size)
        assert abs(values.mean() - mean) < 5 * error
        assert abs(values.std() - std) < 5 * error


def test_truncated_normal_weights_end_at_two_standard_deviations() -> None:
    vector = initial_weights(architecture("cnn-l", 3, "relu", False), "truncated_normal", 1)
    assert 1.9 < np.abs(vector).max() <= 2


@pytest.mark.parametrize("shape", [(8, 3, 5, 5), (6, 6), (20, 36), (36, 20), (1, 9), (9, 1), (40, 8, 2, 2)])
def test_orthogonal_weights_are_torchs_to_rounding_without_lapack(shape: tuple[int, ...]) -> None:
    ours, theirs = torch.empty(shape), torch.empty(shape)
    orthogonal_(ours, generator=torch.Generator().manual_seed(3))
    torch.nn.init.orthogonal_(theirs, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    matrix = ours.reshape(shape[0], -1).double()
    few = min(matrix.shape)
    product = matrix @ matrix.T if len(matrix) == few else matrix.T @ matrix
    torch.testing.assert_close(product, torch.eye(few, dtype=torch.float64), rtol=0, atol=1e-6)


def test_orthogonal_weights_never_change() -> None:
    """Their bits depend on the draws alone: sums have a fixed order, on every machine."""
    drawn = ((np.arange(1, 13) ** 3 * 7919 % 101 - 50) / 64).reshape(3, 4)
    _orthonormalise(drawn)
    np.testing.assert_allclose(drawn @ drawn.T, np.eye(3), atol=1e-12)
    assert hashlib.sha256(drawn.astype(np.float32).tobytes()).hexdigest()[:16] == "47f23ae9e94294a5"


@pytest.mark.parametrize("initializer", OF_LAYERS)
def test_a_scale_multiplies_weights_and_a_bias_may_be_zero(initializer: str) -> None:
    network = architecture("cnn-s", 1, "tanh", False)
    plain = network.layout.unflatten(initial_weights(network, initializer, 3))
    scaled = network.layout.unflatten(initial_weights(network, initializer, 3, scale=0.5, bias=0.0))
    for name, values in plain.items():
        expected = np.zeros_like(values) if name.endswith("bias") else values * np.float32(0.5)
        assert np.array_equal(scaled[name], expected)


def test_dropout_and_activation_do_not_change_initial_weights() -> None:
    plain = initial_weights(architecture("cnn-s", 1, "tanh", False), "normal", 3)
    assert np.array_equal(plain, initial_weights(architecture("cnn-s", 1, "gelu", True), "normal", 3))


def test_the_global_generators_are_neither_read_nor_moved() -> None:
    network = architecture("cnn-s", 1, "tanh", False)
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(2), np.random.random(2)
    torch.manual_seed(1)
    np.random.seed(1)
    first = initial_weights(network, "normal", 8)
    actual = torch.rand(2), np.random.random(2)
    assert torch.equal(actual[0], expected[0])
    assert np.array_equal(actual[1], expected[1])
    assert np.array_equal(initial_weights(network, "normal", 8), first)


def test_threads_do_not_disturb_each_other() -> None:
    network = architecture("cnn-s", 1, "tanh", False)
    alone = [initial_weights(network, "kaiming_normal", seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: initial_weights(network, "kaiming_normal", seed), range(40)))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_resnet_starts_with_unit_normalisations() -> None:
    network = architecture("resnet18", 3, "relu", False)
    weights = network.layout.unflatten(initial_weights(network, "kaiming_uniform", 1))
    assert (weights["layer2.0.downsample.1.weight"] == 1).all()
    assert (weights["bn1.bias"] == 0).all()
    others = initial_buffers(network, 2)
    assert others["buffers"].shape == (2, 9_600)
    assert others["counters"].shape == (2, 20)
    statistics = network.buffer_layout.unflatten(others["buffers"])
    assert (statistics["bn1.running_var"] == 1).all()
    assert (statistics["bn1.running_mean"] == 0).all()


def test_an_unknown_initializer_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'kaiming_normal'"):
        initial_weights(architecture("cnn-s", 1, "tanh", False), "kaiming_norml", 1)
