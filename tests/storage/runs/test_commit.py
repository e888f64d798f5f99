"""Each part is committed exactly once, whatever process dies, whatever reply is lost, however many attempts compete."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.faulty_store import Died, FaultyStore, LosesReplies, dying_store
from tests.support.synthetic import ATTEMPT, RIVAL, RUN, noise, part_data, train, weights
from zooforge.storage.errors import ConflictingRecords, DigestMismatch, FormatError, ObjectMissing, Superseded
from zooforge.storage.formats.record import PartRecord
from zooforge.storage.formats.tensors import decode
from zooforge.storage.keys import parse_record_key, parts_prefix
from zooforge.storage.runs.commit import Committed, commit_part
from zooforge.storage.runs.ledger import read_ledger
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.objects import get_object
from zooforge.storage.stores.protocol import ObjectStore


def test_a_committed_part_has_every_object_that_it_names(memory: ObjectStore) -> None:
    committed = commit_part(memory, RUN, part_data([2, 5, 7], 0), ATTEMPT)
    assert committed.won
    record = committed.record
    assert PartRecord.from_json(memory.get(str(record.key))[0], record.key) == record
    assert record.weights is not None and record.state is not None
    tensors, provenance = decode(get_object(memory, record.weights, "test"))
    assert provenance is None
    np.testing.assert_array_equal(tensors["epoch_000"][1], weights(5, 0))
    _, provenance = decode(get_object(memory, record.state, "test"))
    assert provenance == {"kind": "state", "run": RUN, "members": [2, 5, 7], "part": 0}


@pytest.mark.parametrize(("every", "kept"), [(1, [0, 2]), (2, [0, 1, 2]), (2, [0, 1])])
def test_a_state_object_leaves_out_tensors_that_the_kept_epoch_of_its_part_has(
    memory: ObjectStore, every: int, kept: list[int]
) -> None:
    record = train(memory, [2, 5], 2, every=every, kept=kept, twin=True, faulty={5: 1})[-1].record
    assert record.state is not None and record.epochs[1] == 3
    shared = record.kept == (2,)
    assert record.state_fields == ({"weights": "", "log_sigma2": ".log_sigma2"} if shared else {})
    assert b'"version":%d' % (2 if shared else 1) in memory.get(str(record.key))[0]
    assert PartRecord.from_json(memory.get(str(record.key))[0], record.key) == record
    own, _ = decode(get_object(memory, record.state, "test"))
    assert ("weights" in own, "log_sigma2" in own, "exp_avg" in own) == (not shared, not shared, True)
    arrays = read_ledger(memory, RUN).load_state([5, 2]).arrays
    np.testing.assert_array_equal(arrays["weights"], np.stack([weights(5, 2, faulty_from=1), weights(2, 2)]))
    np.testing.assert_array_equal(arrays["log_sigma2"], np.stack([noise(5, 2), noise(2, 2)]))


def test_a_lost_reply_is_a_success(memory: ObjectStore) -> None:
    committed = commit_part(LosesReplies(memory), RUN, part_data([0, 1], 0), ATTEMPT)
    assert committed.won


def test_the_second_attempt_finds_the_first_ones_record_and_deletes_nothing(memory: ObjectStore) -> None:
    first = commit_part(memory, RUN, part_data([0, 1], 0), ATTEMPT)
    before = {stat.key for stat in memory.list("")}
    second = commit_part(memory, RUN, part_data([0, 1], 0), RIVAL)
    assert not second.won and second.record == first.record
    assert {stat.key for stat in memory.list("")} == before


def test_two_attempts_with_other_values_end_the_run(memory: ObjectStore) -> None:
    commit_part(memory, RUN, part_data([0, 1], 0), ATTEMPT)
    with pytest.raises(ConflictingRecords, match="model 0, part 0: weights of attempt"):
        commit_part(memory, RUN, part_data([0, 1], 0, nudge=1e-3), RIVAL)


def test_other_labels_alone_end_the_run(memory: ObjectStore) -> None:
    commit_part(memory, RUN, part_data([0, 1], 0), ATTEMPT)
    data = part_data([0, 1], 0)
    labels = dict(data.labels)
    labels["test_correct"] = np.array([0, 99])
    with pytest.raises(ConflictingRecords, match="model 1, part 0: labels"):
        commit_part(memory, RUN, replace(data, labels=labels), RIVAL)


def test_records_of_different_member_sets_are_compared(memory: ObjectStore) -> None:
    commit_part(memory, RUN, part_data([0, 1, 2], 0), ATTEMPT)
    commit_part(memory, RUN, part_data([1, 2, 3], 0), RIVAL)
    assert read_ledger(memory, RUN).totals.num_models == 4
    commit_part(memory, RUN, part_data([2, 9], 0, nudge=1.0), RIVAL)
    with pytest.raises(ConflictingRecords, match="model 2, part 0"):
        read_ledger(memory, RUN)


def test_the_smallest_key_is_read(memory: ObjectStore) -> None:
    one = commit_part(memory, RUN, part_data([0, 1, 2], 0), ATTEMPT).record
    two = commit_part(memory, RUN, part_data([1, 2, 3], 0), RIVAL).record
    smaller = min(one, two, key=lambda record: str(record.key))
    assert read_ledger(memory, RUN).holder(1, 0) == smaller.key


def test_only_the_newest_state_of_a_member_set_stays(memory: ObjectStore) -> None:
    records = [c.record for c in train(memory, [0, 1], 3)]
    present = [memory.stat(r.state.key) is not None for r in records if r.state is not None]
    assert present == [False, False, False, True]


def test_a_state_of_other_members_stays(memory: ObjectStore) -> None:
    whole = commit_part(memory, RUN, part_data([0, 1, 2], 0), ATTEMPT).record
    commit_part(memory, RUN, part_data([0, 1], 1), ATTEMPT)
    assert whole.state is not None and memory.stat(whole.state.key) is not None
    state = read_ledger(memory, RUN).load_state([2])
    np.testing.assert_array_equal(state.arrays["weights"][0], weights(2, 0))


def test_parts_after_a_missing_part_are_not_counted(memory: ObjectStore) -> None:
    records = [committed.record for committed in train(memory, [0, 1], 3)]
    memory.delete(str(records[1].key))
    ledger = read_ledger(memory, RUN)
    assert [ledger.next_part(model) for model in (0, 1)] == [1, 1]
    assert ledger.num_epochs(0) == 1
    commit_part(memory, RUN, part_data([0, 1], 1), RIVAL)
    assert read_ledger(memory, RUN).next_part(0) == 4


def test_totals_run_along_a_folder(memory: ObjectStore) -> None:
    train(memory, [0, 1], 2)
    last = train(memory, [0, 1], 4)[-1].record
    assert last.totals.parts == 5 and last.totals.model_epochs == 10
    assert last.totals.samples == 5 * 2 * 100
    assert last.totals.seconds == pytest.approx(2.5)


def test_a_state_comes_from_several_records_in_the_order_asked_for(memory: ObjectStore) -> None:
    train(memory, [0, 1, 2], 2)
    train(memory, [5, 7], 2)
    state = read_ledger(memory, RUN).load_state([7, 0, 5])
    assert (state.part, state.epoch) == (2, 2)
    assert len(state.parents) == 2
    for row, model in enumerate([7, 0, 5]):
        np.testing.assert_array_equal(state.arrays["weights"][row], weights(model, 2))
    assert state.arrays["step"].tolist() == [14, 14, 14]
    assert state.arrays["faulty_epoch"].dtype == np.int32


def test_models_at_different_parts_have_no_common_state(memory: ObjectStore) -> None:
    train(memory, [0], 2)
    train(memory, [1], 1)
    with pytest.raises(ValueError, match="next parts"):
        read_ledger(memory, RUN).load_state([0, 1])


def test_a_state_that_others_continued_from_needs_a_new_ledger(memory: ObjectStore) -> None:
    train(memory, [0, 1], 1)
    old = read_ledger(memory, RUN)
    train(memory, [0, 1], 2)
    with pytest.raises(Superseded):
        old.load_state([0, 1])


def test_a_lost_state_is_not_taken_for_progress(memory: ObjectStore) -> None:
    record = train(memory, [0, 1], 1)[-1].record
    assert record.state is not None
    memory.delete(record.state.key)
    with pytest.raises(ObjectMissing, match=record.state.sha256):
        read_ledger(memory, RUN).load_state([0, 1])


def test_a_changed_state_is_refused(memory: ObjectStore) -> None:
    record = train(memory, [0, 1], 1)[-1].record
    assert record.state is not None
    data = bytearray(memory.get(record.state.key)[0])
    data[-1] ^= 1
    memory.put(record.state.key, data)
    with pytest.raises(DigestMismatch, match=record.state.sha256):
        read_ledger(memory, RUN).load_state([0, 1])


def test_a_ledger_counts_distinct_models_and_parts(memory: ObjectStore) -> None:
    train(memory, range(4), 3, faulty={2: 2})
    commit_part(memory, RUN, part_data([2, 3, 4], 0), RIVAL)
    totals = read_ledger(memory, RUN).totals
    assert (totals.num_models, totals.model_epochs, totals.num_faulty) == (5, 4 * 4 + 1, 1)
    assert totals.samples == 4 * 4 * 100 + 300


def test_faulty_models_are_known_with_epoch_and_reason(memory: ObjectStore) -> None:
    train(memory, range(4), 3, faulty={2: 2})
    ledger = read_ledger(memory, RUN).faulty[2]
    assert (ledger.epoch, ledger.reason) == (2, "nan")


def test_a_known_ledger_saves_reading(memory: ObjectStore) -> None:
    train(memory, range(4), 3)
    old = read_ledger(memory, RUN)
    before = memory.traffic.read_bytes
    read_ledger(memory, RUN, known=old)
    assert memory.traffic.read_bytes == before


def test_parts_of_several_epochs_count_their_epochs(memory: ObjectStore) -> None:
    train(memory, range(4), 6, every=3)
    ledger = read_ledger(memory, RUN)
    assert ledger.next_part(0) == 3 and ledger.num_epochs(0) == 7
    assert ledger.commit_every == 3


def test_a_refill_brings_epochs_that_were_not_kept(memory: ObjectStore) -> None:
    train(memory, range(4), 3, kept=[0, 3])
    data = replace(part_data(range(4), 2), state={})
    record = commit_part(memory, RUN, data, RIVAL, refill=True).record
    assert record.kept == (2,) and record.state is None
    ledger = read_ledger(memory, RUN)
    assert ledger.next_part(0) == 4
    assert ledger.refills(1) == [record.key]


def test_engines_that_depend_on_grouping_follow_one_chain(memory: ObjectStore) -> None:
    def commit(members: list[int], part: int, nudge: float, parents: list[str]) -> Committed:
        data = part_data(members, part, nudge=nudge)
        return commit_part(memory, RUN, data, ATTEMPT, parents=parents or ["root"])

    a0 = commit([0, 1], 0, 0.0, []).record
    b0 = commit([1, 2], 0, 0.5, []).record
    first, second = sorted([a0, b0], key=lambda r: str(r.key))
    commit(list(second.members), 1, 0.7, [str(second.key)])
    assert read_ledger(memory, RUN).next_part(1) == 1
    good = commit(list(first.members), 1, 0.1, [str(first.key)]).record
    ledger = read_ledger(memory, RUN)
    assert ledger.next_part(1) == 2 and ledger.holder(1, 1) == good.key


@pytest.mark.parametrize(
    "change",
    [
        {"members": (1, 0)},
        {"members": ()},
        {"epochs": range(0, 2)},
        {"state": {}},
        {"fields": {"": {3: np.zeros((2, 4), np.float32)}}},
        {"fields": {"": {0: np.zeros((3, 4), np.float32)}}},
        {"unit": 1},
    ],
)
def test_refuses_parts_whose_pieces_do_not_fit(memory: ObjectStore, change: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        commit_part(memory, RUN, replace(part_data([0, 1], 0), **change), ATTEMPT)
    assert list(memory.list("")) == []


def test_nan_is_stored_canonically(memory: ObjectStore) -> None:
    data = part_data([0], 0)
    odd = np.array(data.state["weights"])
    odd.view(np.uint32)[0, 0] = 0xFFC12345  # a NaN with sign and payload
    record = commit_part(memory, RUN, replace(data, fields={"": {0: odd}}), ATTEMPT).record
    assert record.weights is not None
    tensors, _ = decode(get_object(memory, record.weights, "test"))
    assert tensors["epoch_000"].view(np.uint32)[0, 0] == 0x7FC00000


def test_forty_units_with_four_rivals_each_survive_deaths(s3_store_url: str) -> None:
    from zooforge.storage.stores.open import open_store

    store = open_store(s3_store_url)

    def rival(job: tuple[int, int]) -> bool:
        unit, number = job
        dying = dying_store(store, random.Random(unit * 10 + number))
        members = [unit * 4 + m for m in range(4)]
        try:
            data = part_data(members, 0, unit=members[0])
            return commit_part(dying, RUN, data, f"20260101T000000Z-{number:04x}").won
        except Died:
            return False

    jobs = [(unit, number) for unit in range(40) for number in range(4)]
    random.Random(1).shuffle(jobs)
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(rival, jobs))
    records = [key for stat in store.list(parts_prefix(RUN)) if (key := parse_record_key(stat.key))]
    units = {unit for (unit, _), ours in zip(jobs, won, strict=True) if ours}
    assert len(records) == len({key.unit for key in records}) == sum(won) == len(units)
    assert len(records) >= 39  # all four dying is one in two thousand, and this seed is fixed
    ledger = read_ledger(store, RUN)
    for record in ledger.records(records):
        for ref in (record.weights, record.labels, record.state):
            assert ref is not None
            get_object(store, ref, "test")


@given(seed=st.integers(0, 2**32), deaths=st.lists(st.integers(0, 20), max_size=12))
@settings(max_examples=40, deadline=None)
def test_whenever_drivers_die_the_next_one_ends_with_the_same_records(seed: int, deaths: list[int]) -> None:
    quiet = MemoryStore()
    train(quiet, range(6), 3)
    store = MemoryStore()
    for number, dies_at in enumerate(deaths):
        count = iter(range(1000))

        def fault(verb: str, key: str, count: object = count, dies_at: int = dies_at) -> None:
            if verb != "get" and next(count) == dies_at:
                raise Died

        chosen = sorted(random.Random(seed + number).sample(range(6), 4))
        try:
            train(FaultyStore(store, fault), chosen, 2, attempt=RIVAL)
        except Died:
            continue
    train(store, range(6), 3)
    ledger, expected = read_ledger(store, RUN), read_ledger(quiet, RUN)
    for model in range(6):
        assert ledger.next_part(model) == expected.next_part(model) == 4
        for part in range(4):
            key, other = ledger.holder(model, part), expected.holder(model, part)
            assert key is not None and other is not None
            ours, theirs = ledger.record(key), expected.record(other)
            mine, good = ours.members.index(model), theirs.members.index(model)
            assert ours.weight_digests[mine] == theirs.weight_digests[good]
            assert ours.label_digests[mine] == theirs.label_digests[good]
    np.testing.assert_array_equal(
        ledger.load_state(range(6)).arrays["weights"], expected.load_state(range(6)).arrays["weights"]
    )
