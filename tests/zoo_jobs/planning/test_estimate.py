"""Plans are compared with arithmetic done by hand; the tables of rates and prices are checked."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.image_learners import SINE, learners
from tests.support.zoo_specs import specs
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.planning import machines
from zooforge.zoo_jobs.planning.estimate import epoch_seconds_per_model, estimate, ranked, samples
from zooforge.zoo_jobs.planning.machines import Machine, Rate, machine
from zooforge.zoo_jobs.planning.units import request
from zooforge.zoo_jobs.spec.blocks import SparsifySpec
from zooforge.zoo_jobs.spec.twins import twins_of
from zooforge.zoo_jobs.spec.zoo import ZooSpec

FORWARD = 115_200 + 76_800 + 864 + 720 + 200  # multiply-adds of CNN-s on 28 x 28 x 1
TRAIN = 3 * FORWARD - 115_200
BARE = Machine("bare", "no rate", 1, 4, None, None, ())


def fixed(rate: float = 1000.0) -> Machine:
    rates = tuple(
        Rate(
            engine="lanes", architecture="cnn-s", channels=1, twins=twins, date="2026-11-24",
            train_samples_per_second=rate, eval_samples_per_second=2 * rate,
        )
        for twins in (False, True)
    )  # fmt: skip
    return Machine("fixed", "a test", 1, 2, 3.0, 1.0, rates)


def test_steps_and_flop_of_an_mnist_seed_zoo_are_those_counted_by_hand() -> None:
    spec = entries.load("mnist-cnn-s-seed")
    plan = estimate(spec, request(spec), BARE)
    assert plan.num_steps == 1000 * 50 * 5000
    trained, evaluated = 50 * 50_000, 51 * 20_000 + 6 * 50_000
    assert samples(spec, 50).trained == trained
    assert samples(spec, 50).evaluated == evaluated
    assert plan.num_flop == 2 * 1000 * (trained * TRAIN + evaluated * FORWARD)
    assert plan.num_flop == pytest.approx(2.72e15, rel=0.05)  # without epoch 0 and clean train metrics
    assert (plan.num_params, plan.num_states, plan.num_units) == (2464, 51_000, 4)


def test_resnet_flop_are_those_of_the_reference_study() -> None:
    for name, tflop in (("cifar10", 7_769), ("cifar100", 9_323), ("tiny-imagenet", 82_565)):
        spec = entries.load(f"{name}-resnet18-seed")
        per_model = estimate(spec, request(spec, "0:1"), BARE).num_flop / 1e12
        assert per_model == pytest.approx(tflop, rel=0.02)


def test_a_zoo_that_learns_images_counts_pixels_and_two_layers_of_32_sines_have_a_rate() -> None:
    hidden = {"linear": {"features": 32}}
    layers = [hidden, SINE, hidden, SINE, {"linear": {"features": "channels"}}]
    spec = learners(
        dataset="mnist5k", image="0:5000", architecture={"layers": layers}, steps_per_epoch=20, num_epochs=50
    )
    plan = estimate(spec, request(spec), machine())
    assert samples(spec, 50).trained == 50 * 20 * 784
    assert samples(spec, 50).evaluated == 51 * 784
    assert (plan.num_steps, plan.num_params, plan.engine) == (5000 * 50 * 20, 1185, "lanes")
    assert plan.seconds is not None
    assert plan.dollars is not None


def test_seconds_are_samples_over_rates_and_dollars_follow() -> None:
    spec = entries.load("mnist5k-cnn-s")
    plan = estimate(spec, request(spec, "0:32", 6), fixed())
    per_model = 6 * 4000 / 1000 + (7 * 1000 + 1 * 4000) / 2000
    # Eight families of four models; `lanes` takes as long for four as for sixteen.
    assert plan.seconds == pytest.approx(8 * 16 * per_model / 2)
    assert estimate(spec, request(spec, None, 6), fixed()).seconds == pytest.approx(2560 * per_model / 2)
    assert plan.dollars == pytest.approx(plan.seconds / 3600 * 3.0)
    assert plan.spot_dollars == pytest.approx(plan.seconds / 3600)
    assert plan.engine == "lanes"
    assert epoch_seconds_per_model(spec, fixed()) == pytest.approx(4.0 + 0.5)
    alone = estimate(spec, request(spec, "0:1", 6), fixed())
    assert alone.seconds == pytest.approx(16 * per_model)  # one model keeps one slot busy


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        (
            "dollars_per_hour: 4.5",
            "dollar_per_hour: 4.5",
            "'dollar_per_hour' in prices.h200-141g; did you mean",
        ),
        ("dollars_per_hour: 4.5", "dollars_per_hour: four", "prices.h200-141g.dollars_per_hour is 'four'"),
        ("dollars_per_hour: 4.5", "dollars_per_hour: -4", "greater than 0"),
        ("currency: USD", "curency: USD", "did you mean 'currency'"),
        ("currency: USD", "currency: EUR", "currency is 'EUR'"),
    ],
)
def test_a_mistake_in_the_price_table_is_named_in_one_line(
    right: str, wrong: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = machines.PRICES.read_text()
    assert right in text
    monkeypatch.setattr(machines, "PRICES", tmp_path / "prices.yaml")
    machines.PRICES.write_text(text.replace(right, wrong, 1))
    with pytest.raises(InputError, match=re.escape(said)) as raised:
        machines._prices.__wrapped__()
    assert "\n" not in str(raised.value) and str(raised.value).startswith("prices.yaml")


def test_machines_without_a_measured_rate_have_no_seconds_and_rank_last() -> None:
    spec = entries.load("mnist5k-cnn-s")
    wanted = request(spec)
    unknown = estimate(spec, wanted, BARE)
    assert (unknown.seconds, unknown.dollars, unknown.engine) == (None, None, None)
    assert estimate(spec, wanted, fixed(), "stacked").seconds is None
    assert epoch_seconds_per_model(spec, BARE) is None
    slow, fast = estimate(spec, wanted, fixed(100.0)), estimate(spec, wanted, fixed(1000.0))
    assert ranked([unknown, slow, fast]) == [fast, slow, unknown]


def test_bytes_of_an_mnist_seed_zoo_are_about_weights_twice_then_once() -> None:
    spec = entries.load("mnist-cnn-s-seed")
    plan = estimate(spec, request(spec), BARE)
    weights = 51_000 * 2464 * 4
    assert weights < plan.final_bytes < 1.15 * weights
    assert 2 * weights < plan.peak_bytes < 2.2 * weights
    # 4 units x 51 parts x (weights, labels, record), 4 states, 8 shards, and what a run and a version always have.
    assert plan.num_objects == 4 * 51 * 3 + 4 + 8 + 4 + 10


def test_a_resnet_part_is_its_shard_so_nothing_is_stored_twice() -> None:
    spec = entries.load("cifar10-resnet18-seed")
    plan = estimate(spec, request(spec, "0:10"), BARE)
    weights = 510 * (11_173_962 * 4 + 9_600 * 4 + 20 * 8)
    assert weights < plan.peak_bytes < 1.05 * weights


def test_epochs_that_are_not_kept_take_no_room() -> None:
    spec = entries.load("mnist-cnn-s-seed")
    few = ZooSpec.from_json(spec.to_json() | {"save_epochs": [0, "21:26", 50]})
    whole, part = (estimate(zoo, request(zoo), BARE) for zoo in (spec, few))
    assert part.final_bytes < whole.final_bytes / 4
    assert part.num_objects == whole.num_objects - 4 * (51 - 7)
    assert (part.num_flop, part.run) == (whole.num_flop, whole.run)


def test_variational_twins_cost_two_convolutions_a_step_and_keep_their_variances() -> None:
    spec = entries.load("mnist-cnn-s-seed")
    twins = twins_of(spec)
    plan = estimate(twins, request(twins), BARE)
    trained, evaluated = 25 * 50_000, 26 * 20_000 + 3 * 50_000
    assert plan.num_flop == 2 * 1000 * (2 * trained * TRAIN + evaluated * FORWARD)
    assert plan.final_bytes > 1000 * 26 * (2464 + 2434) * 4
    magnitude = twins_of(spec, SparsifySpec(method="magnitude", sparsity_ratio=0.9))
    assert estimate(magnitude, request(magnitude), BARE).num_flop < plan.num_flop


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_an_estimate_adds_up_over_disjoint_requests(data: st.DataObject) -> None:
    spec = data.draw(specs())
    num_models = spec.num_base_models
    cut = data.draw(st.integers(1, max(1, num_models - 1)))
    epochs = data.draw(st.integers(0, 9))
    slices = [None] if cut >= num_models else [f"0:{cut}", f"{cut}:{num_models}"]
    whole = estimate(spec, request(spec, None, epochs), BARE)
    parts = [estimate(spec, request(spec, text, epochs), BARE) for text in slices]
    for key in ("num_models", "num_states", "num_steps", "num_flop", "final_bytes"):
        if key == "final_bytes":
            assert sum(getattr(part, key) for part in parts) >= getattr(whole, key)
        else:
            assert sum(getattr(part, key) for part in parts) == getattr(whole, key)


def test_the_tables_that_come_with_the_project_are_read_and_priced() -> None:
    default = machine()
    assert default.rate("cnn-s", 1, twins=False) is not None
    assert default.dollars_per_hour is not None
    many = machine(f"{default.name}:50")
    assert (many.slots, many.name) == (50 * default.slots, f"{default.name}:50")
    assert many.dollars_per_hour == pytest.approx(50 * default.dollars_per_hour)
    for kind in machines._rates().machines:
        assert machines._rates().machines[kind].price in machines._prices()


@pytest.mark.parametrize("name", ["nothing", "h200-141g:0", "h200-141g:x"])
def test_an_unknown_machine_or_count_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"machine|number"):
        machine(name)


def test_every_cnn_zoo_of_the_catalogue_has_a_measured_rate_on_the_default_machine() -> None:
    for spec in entries.load_all():
        if spec.architecture in ("cnn-s", "cnn2", "cnn-l"):
            assert estimate(spec, request(spec), machine()).seconds is not None


def test_a_resnet_that_was_not_measured_is_estimated_from_flop_and_says_so() -> None:
    h200 = machine("h200-141g")
    plain, sister = (entries.load(f"cifar10-resnet18-seed{ending}") for ending in ("", "-bf16"))
    for spec, peak, ratio in ((plain, 67e12, 0.6), (sister, 989e12, 0.22)):
        plan = estimate(spec, request(spec), h200)
        assert plan.seconds == pytest.approx(plan.num_flop / (ratio * peak))
        assert plan.dollars == pytest.approx(plan.seconds / 3600 * h200.dollars_per_hour)
        assert plan.assumed == f"{ratio:.0%} of {peak / 1e12:g} TFLOP/s"
        assert plan.to_json()["assumed"] == plan.assumed
    small = entries.load("mnist-cnn-s-seed")
    assert estimate(small, request(small), h200).seconds is None  # bound by memory and launches
    assert estimate(plain, request(plain), machine()).seconds is None  # no peak is known
    assert estimate(plain, request(plain), h200, "stacked").seconds is None


def test_a_measured_rate_of_a_precision_takes_the_place_of_its_estimate() -> None:
    rate = Rate(
        engine="sequential", architecture="resnet18", channels=3, twins=False, precision="bf16", date="2026-11-30",
        train_samples_per_second=1000, eval_samples_per_second=4000,
    )  # fmt: skip
    measured = replace(machine("h200-141g"), rates=(rate,))
    plain, sister = (entries.load(f"cifar10-resnet18-seed{ending}") for ending in ("", "-bf16"))
    assert estimate(sister, request(sister), measured).assumed is None
    assert estimate(plain, request(plain), measured).assumed is not None


def test_workers_that_share_a_gpu_are_its_slots_and_have_rates_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine(None, 2) == machine()  # it has no GPU
    one, two = machine("h200-141g"), machine("h200-141g", 2)
    assert (one.slots, two.slots, machine("h200-141g:3", 2).slots) == (1, 2, 6)
    plain, sister = (entries.load(f"cifar10-resnet18-seed{ending}") for ending in ("", "-bf16"))
    alone, shared = (estimate(plain, request(plain, "0:10"), place) for place in (one, two))
    assert alone.seconds is not None and shared.seconds == pytest.approx(alone.seconds)  # no gain is assumed
    assert shared.dollars == pytest.approx(alone.dollars)
    rate = Rate(
        engine="sequential", architecture="resnet18", channels=3, twins=False, precision="bf16", date="2026-11-30",
        workers_per_gpu=2, train_samples_per_second=800, eval_samples_per_second=4000,
    )  # fmt: skip
    table = machines._rates()
    rates = table.machines | {"h200-141g": table.machines["h200-141g"].model_copy(update={"rates": (rate,)})}
    monkeypatch.setattr(machines, "_rates", lambda: table.model_copy(update={"machines": rates}))
    assert machine("h200-141g", 2).rate("resnet18", 3, False, precision="bf16") == rate
    assert machine("h200-141g").rate("resnet18", 3, False, precision="bf16") is None
    assert estimate(sister, request(sister), machine("h200-141g", 2)).assumed is None
