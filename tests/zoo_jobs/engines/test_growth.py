"""Training from epoch to epoch: chunks, faulty models, memory."""

import dataclasses
import weakref
from typing import Any

import numpy as np
import pytest

from tests.support.tiny_runs import RUN, random_data
from zooforge.storage.formats.labels import FAULT_REASONS
from zooforge.storage.formats.norms import weight_norms
from zooforge.zoo_jobs.data.prepared import PreparedData
from zooforge.zoo_jobs.engines.contract import Hyperparameters, Program, StateArrays
from zooforge.zoo_jobs.engines.growth import CANONICAL_NAN, NEVER, EpochResult, Growth
from zooforge.zoo_jobs.engines.sequential.engine import SequentialEngine
from zooforge.zoo_jobs.engines.stacked import StackedEngine

MODELS = (0, 2, 4, 6)  # of one operation family
DATA = random_data()


def growth(
    models: tuple[int, ...] = MODELS, chunk: int | None = None, state: StateArrays | None = None, **kw: Any
) -> Growth:
    program = RUN.program(RUN.rows[models[0]].family)
    hyperparameters = kw.get("hyperparameters") or RUN.hyperparameters(models)
    first = state or RUN.first_state(models, None)
    return Growth(kw.get("engine") or SequentialEngine(), program, hyperparameters, first, DATA, chunk)


def grow(subject: Growth, epochs: int, first: int = 0) -> list[EpochResult]:
    return [subject.step(epoch, clean_train=epoch == 0) for epoch in range(first, epochs + 1)]


def same(left: StateArrays, right: StateArrays) -> bool:
    return left.keys() == right.keys() and all(left[name].tobytes() == right[name].tobytes() for name in left)


@pytest.mark.parametrize("chunk", [1, 2, 3, 4])
def test_chunk_size_does_not_change_a_byte(chunk: int) -> None:
    whole, parts = growth(), growth(chunk=chunk)
    results, chunked = grow(whole, 2), grow(parts, 2)
    assert same(whole.state(), parts.state())
    for left, right in zip(results, chunked, strict=True):
        assert left.fields[""].tobytes() == right.fields[""].tobytes()
        for name, values in left.labels.items():
            assert np.ma.allequal(values, right.labels[name]), name


def test_a_model_trained_alone_equals_the_same_model_trained_with_others() -> None:
    together, alone = growth(), growth((4,))
    grow(together, 2)
    grow(alone, 2)
    assert together.state()["weights"][2].tobytes() == alone.state()["weights"][0].tobytes()


def test_going_on_from_a_state_equals_never_having_stopped() -> None:
    through, first = growth(), growth()
    grow(through, 3)
    grow(first, 1)
    second = growth(state=first.state())
    grow(second, 3, first=2)
    assert same(through.state(), second.state())


def diverging() -> Hyperparameters:
    hyperparameters = RUN.hyperparameters(MODELS)
    hyperparameters.learning_rate_P[1] = 1e37
    return hyperparameters


def test_a_model_that_stops_being_finite_is_frozen_and_labelled() -> None:
    subject = growth(hyperparameters=diverging())
    results = grow(subject, 3)
    state = subject.state()
    assert state["faulty_epoch"].tolist() == [NEVER, 1, NEVER, NEVER]
    weights = state["weights"][1]
    expected = "nan" if np.isnan(weights).any() else "inf"
    assert FAULT_REASONS[state["faulty_reason"][1]] == expected
    assert (weights.view(np.uint32)[np.isnan(weights)] == np.array(CANONICAL_NAN).view(np.uint32)).all()
    assert not state["exp_avg"][1].any()
    for result in results:
        labels = result.labels
        null = result.epoch >= 1
        for name in ("weight_norm", "test_class_correct"):
            assert bool(np.ma.getmaskarray(labels[name])[1].all()) == null, name
        for name in ("test_loss", "test_correct", "val_loss", "running_train_loss"):
            assert bool(np.ma.getmaskarray(labels[name])[1]) == (null or name == "running_train_loss"), name
            assert not np.ma.getmaskarray(labels[name])[0] or (name == "running_train_loss" and result.epoch == 0)
    assert results[1].fields[""][1].tobytes() == results[3].fields[""][1].tobytes()
    assert results[3].labels["faulty_epoch"].tolist() == [None, 1, None, None]
    assert results[3].labels["faulty_reason"].tolist() == [None, expected, None, None]


def test_a_faulty_model_leaves_its_neighbours_bit_identical() -> None:
    sound, sick = growth(), growth(hyperparameters=diverging())
    grow(sound, 3)
    grow(sick, 3)
    for model in (0, 2, 3):
        for name, values in sound.state().items():
            assert values[model].tobytes() == sick.state()[name][model].tobytes(), name


def test_labels_count_what_was_seen() -> None:
    first, second = grow(growth(), 1)
    assert first.samples == 0
    assert second.samples == 60 * len(MODELS)
    assert first.labels["train_count"].tolist() == [60] * 4
    assert second.labels["train_count"].tolist() == [None] * 4  # clean train metrics were asked for at epoch 0 only
    assert second.labels["running_train_count"].tolist() == [60] * 4
    assert second.labels["val_count"].tolist() == [20] * 4
    assert (second.labels["test_correct"] <= 20).all()
    for split in ("val", "test"):
        by_class = second.labels[f"{split}_class_correct"]
        assert by_class.shape == (4, DATA.num_classes)
        assert by_class.sum(axis=1).tolist() == second.labels[f"{split}_correct"].tolist()
        assert second.labels[f"{split}_class_predicted"].sum(axis=1).tolist() == [20] * 4
    assert np.ma.getmaskarray(second.labels["train_class_correct"]).all()
    norms, largest = weight_norms(second.fields[""])
    assert np.array_equal(second.labels["weight_norm"], norms)
    assert np.array_equal(second.labels["max_abs_weight"], largest)


class SmallMemory(SequentialEngine):
    """Holds two models, no more."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[int] = []

    def open(self, program: Program, hyperparameters: Hyperparameters, state: StateArrays, data: PreparedData) -> Any:
        self.opened.append(len(hyperparameters.seed_P))
        if len(hyperparameters.seed_P) > 2:
            raise MemoryError
        return super().open(program, hyperparameters, state, data)


def test_out_of_memory_splits_the_chunk_and_goes_on() -> None:
    engine = SmallMemory()
    small, whole = growth(chunk=4, engine=engine), growth()
    grow(small, 1)
    grow(whole, 1)
    assert engine.opened == [4, 2]  # the second half is loaded into the session of the first
    assert same(small.state(), whole.state())


def test_the_memory_of_a_failed_attempt_is_free_before_the_next_one() -> None:
    """The traceback of the failed step holds its tensors until the error has been handled."""

    class Tensors:
        pass

    class Full(SequentialEngine):
        def __init__(self) -> None:
            super().__init__("cpu")
            self.left: list[Any] = []

        def open(self, program: Program, hyperparameters: Hyperparameters, state: StateArrays, data: Any) -> Any:
            assert all(reference() is None for reference in self.left)
            if len(state["weights"]) > 1:
                tensors = Tensors()
                self.left.append(weakref.ref(tensors))
                raise MemoryError("CUDA out of memory")
            return super().open(program, hyperparameters, state, data)

    engine = Full()
    subject = growth(engine=engine, chunk=64)
    subject.step(0, clean_train=False)
    subject.close()
    assert len(engine.left) == 2  # 4 models, then 2: 64 is no more than there are


def test_chunks_in_one_session_compute_the_same_as_new_sessions() -> None:
    """A new session for each chunk and epoch would have to capture its graphs again."""

    class Counting(StackedEngine):
        opened = 0

        def open(self, program: Program, hyperparameters: Hyperparameters, state: StateArrays, data: Any) -> Any:
            self.opened += 1
            session = super().open(program, hyperparameters, state, data)
            if self.loads:
                return session
            session.load = lambda hyperparameters, state: False  # type: ignore[method-assign]
            return session

        def __init__(self, loads: bool) -> None:
            super().__init__("cpu")
            self.loads = loads

    ended = []
    for loads, opened in ((True, 1), (False, 2 * 3)):
        engine = Counting(loads)
        subject = growth(engine=engine, chunk=2)
        grow(subject, 2)
        subject.close()
        assert engine.opened == opened
        ended.append(subject.state())
    assert same(*ended)


def test_a_session_is_not_reused_for_another_number_of_models_or_other_branches_of_a_step() -> None:
    program, h = RUN.program(RUN.rows[0].family), RUN.hyperparameters(MODELS)
    state = RUN.first_state(MODELS, None)
    with StackedEngine("cpu").open(program, h, state, DATA) as session:
        assert session.load(h, state)
        assert not session.load(h.take(np.array([0, 1])), {name: values[:2] for name, values in state.items()})
        assert not session.load(dataclasses.replace(h, weight_decay_P=np.zeros(4)), state)
