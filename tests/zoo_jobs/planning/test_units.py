"""Units, requests and tasks for random specs and random requests."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.zoo_specs import extensions, specs
from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.planning.units import WorkUnit, model_slice, models_that_fit, request, tasks, work_units
from zooforge.zoo_jobs.spec.grid import check_extends, rows
from zooforge.zoo_jobs.spec.twins import twins_of
from zooforge.zoo_jobs.spec.zoo import ZooSpec


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_units_partition_the_plan_into_operation_families(data: st.DataObject) -> None:
    spec = data.draw(specs())
    zoo = data.draw(st.sampled_from([spec, twins_of(spec)]))
    size = data.draw(st.integers(1, 300))
    units = work_units(zoo, size=size)
    all_rows = rows(zoo)
    assert sorted(model for unit in units for model in unit.models) == list(range(len(all_rows)))
    assert [unit.id for unit in units] == sorted(min(unit.models) for unit in units)
    partly_filled: Counter[object] = Counter()
    for unit in units:
        assert list(unit.models) == sorted(unit.models)
        families = {all_rows[model].family for model in unit.models}
        assert len(families) == 1
        assert len(unit.models) <= size
        partly_filled[families.pop()] += len(unit.models) < size
    assert max(partly_filled.values()) <= 1


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_request_trains_exactly_its_models_and_never_changes_a_unit(data: st.DataObject) -> None:
    spec = data.draw(specs())
    size = data.draw(st.integers(1, 64))
    units = work_units(spec, size=size)
    num_models = len(rows(spec))
    start = data.draw(st.integers(0, num_models - 1))
    stop = data.draw(st.integers(start + 1, num_models))
    wanted = request(spec, f"{start}:{stop}", data.draw(st.integers(0, 9)))
    work = tasks(units, wanted, lambda _: 0, slots=data.draw(st.integers(1, 40)))
    assert sorted(model for task in work for model in task.models) == list(range(start, stop))
    unit_of = {model: unit.id for unit in units for model in unit.models}
    assert all({unit_of[model] for model in task.models} == {task.unit} for task in work)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_extension_changes_no_row_no_run_and_no_full_unit(data: st.DataObject) -> None:
    spec = data.draw(specs())
    longer = data.draw(extensions(spec))
    before, after = rows(spec), rows(longer)
    assert after[: len(before)] == before
    assert [row.index for row in after] == list(range(len(after)))
    assert len(after) > len(before)
    assert longer.run_id == spec.run_id
    assert twins_of(longer).run_id == twins_of(spec).run_id
    check_extends(spec, longer)
    size = data.draw(st.integers(1, 64))
    for old, new in ((spec, longer), (twins_of(spec), twins_of(longer))):
        units = {unit.id: unit for unit in work_units(new, size=size)}
        for unit in work_units(old, size=size):
            kept = units[unit.id].models
            assert kept[: len(unit.models)] == unit.models
            assert all(model >= len(before) for model in kept[len(unit.models) :])
            if len(unit.models) == size:
                assert kept == unit.models


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_tasks_are_the_missing_parts_grouped_by_unit_and_next_part(data: st.DataObject) -> None:
    spec = data.draw(specs())
    units = work_units(spec, size=data.draw(st.integers(1, 64)))
    wanted = request(spec, None, data.draw(st.integers(0, 6)))
    dice = random.Random(data.draw(st.integers(0, 99)))
    next_part = [dice.randint(0, wanted.last_part + 1) for _ in rows(spec)]
    max_models = data.draw(st.none() | st.integers(0, 50))
    work = tasks(units, wanted, next_part.__getitem__, slots=data.draw(st.integers(1, 9)), max_models=max_models)
    trained = [model for task in work for model in task.models]
    assert sorted(trained) == [model for model, part in enumerate(next_part) if part <= wanted.last_part]
    for task in work:
        assert all(next_part[model] == task.part for model in task.models)
        if max_models is not None:
            assert len(task.models) <= max(1, max_models)


def test_an_engine_that_is_not_bitwise_keeps_units_whole() -> None:
    spec = entries.load("mnist-cnn-s-seed")
    work = tasks(work_units(spec), request(spec), lambda _: 0, slots=64, bitwise=False, max_models=16)
    assert [len(task.models) for task in work] == [256, 256, 256, 232]


def test_units_are_split_by_multiples_of_16_when_slots_would_idle() -> None:
    units = [WorkUnit(tuple(range(256))), WorkUnit(tuple(range(256, 300)))]
    spec = entries.load("mnist-cnn-s-seed")
    work = tasks(units, request(spec, "0:300"), lambda _: 0, slots=6)
    sizes = [len(task.models) for task in work]
    assert len(work) >= 6
    assert sorted(size % 16 for size in sizes)[-2:] == [0, 300 % 16]
    assert max(sizes) <= 64
    assert len(tasks(units, request(spec, "0:300"), lambda _: 0, slots=1000)) == 16 + 3


@given(st.floats(1e-3, 1e3), st.floats(1, 600))
def test_an_epoch_of_the_models_that_fit_takes_at_most_half_the_notice(seconds: float, notice: float) -> None:
    fit = models_that_fit(seconds, notice)
    assert fit * seconds <= notice / 2 * (1 + 1e-9)
    assert fit < 16 or fit % 16 == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("90:10", "empty"),
        ("10:10", "empty"),
        ("0:2561", "models 0:2560"),
        ("abc", "half-open"),
        ("-3:5", "half-open"),
        ("1:2:3", "half-open"),
    ],
)
def test_an_invalid_slice_of_models_is_refused_with_that_of_the_zoo(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        model_slice(text, 2560, "mnist5k-cnn-s")
    assert "0:2560" in str(caught.value)


def test_a_slice_may_leave_out_an_end() -> None:
    assert model_slice(":32", 100, "z") == range(32)
    assert model_slice("90:", 100, "z") == range(90, 100)
    assert model_slice(None, 100, "z") == range(100)


def test_an_epoch_inside_a_part_is_refused_and_the_nearest_offered() -> None:
    spec = entries.load("mnist5k-cnn-s")
    with pytest.raises(InputError, match="nearest are 4 and 8"):
        request(spec, None, 6, commit_every=4)
    with pytest.raises(InputError, match="0 or more"):
        request(spec, None, -1)
    assert request(spec, None, 8, commit_every=4).last_part == 2


def test_epochs_may_go_on_for_ever_unless_the_schedule_ends() -> None:
    assert request(entries.load("mnist5k-cnn-s"), None, 100).num_epochs == 100
    resnet = entries.load("cifar10-resnet18-seed")
    assert request(resnet, None, 3).num_epochs == 3
    with pytest.raises(InputError, match="one-cycle"):
        request(resnet, None, 51)


def test_units_of_the_catalogue_are_full_but_for_the_last_of_a_family() -> None:
    sizes = {spec.name: [len(u.models) for u in work_units(spec)] for spec in entries.load_all()}
    assert sizes["mnist-cnn-s-seed"] == [256, 256, 256, 232]
    assert sizes["mnist-cnn-s-hyp-fixed"] == [160] * 16
    assert sizes["cifar10-resnet18-seed"] == [1] * 1000


def test_twins_are_grouped_by_their_own_rows_which_have_no_dropout() -> None:
    spec: ZooSpec = entries.load("mnist-cnn-s-hyp-fixed")
    assert [len(unit.models) for unit in work_units(twins_of(spec))] == [256, 256, 256, 256, 256, 256, 256, 256] + [
        64
    ] * 8
