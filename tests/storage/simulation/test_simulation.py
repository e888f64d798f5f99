"""The store protocol under 2,000 random schedules, and under every schedule of two actors up to a depth.

The mistakes at the end are faults that the protocol once had. The simulation must notice each of them.
`python -m tests.storage.simulation HEX` runs a drawn schedule again and prints its requests.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from zooforge.storage.canonical import canonical_json
from zooforge.storage.errors import ObjectNotFound, StorageError
from zooforge.storage.keys import attempt_id, attempt_key, claim_key, control_key, usage_key
from zooforge.storage.ops import gc, pull
from zooforge.storage.publish import head
from zooforge.storage.runs import claims, commit, marks, run_files
from zooforge.storage.stores.protocol import create, get_or_none
from zooforge.zoo_jobs.catalogue import in_store
from zooforge.zoo_jobs.unattended import life, stops

from . import actors, removal, scenes
from .scenes import PAIRS, Pair, play, run_pair, scene_of
from .world import Violation, World

Mistake = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize("share", range(8))
@settings(
    max_examples=250,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # shortening a schedule takes minutes
    suppress_health_check=list(HealthCheck),
)
@given(data=st.binary(min_size=40, max_size=400))
def test_drawn_schedules_break_no_promise(share: int, data: bytes) -> None:
    note(f"python -m tests.storage.simulation {data.hex()}")
    play(scene_of(data))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.__name__)
def test_every_schedule_of_two_actors_keeps_the_promises(pair: Pair) -> None:
    assert run_pair(pair) > 30


def no_look_at_marks(patch: pytest.MonkeyPatch) -> None:
    for module in (marks, head):
        patch.setattr(module, "unmark", lambda *arguments, **options: [])


def look_without_marks(patch: pytest.MonkeyPatch) -> None:
    """A writer checks its objects after its record, but does not wait for sweeps."""

    def unmark(store: Any, refs: Any, clock: Any = None, wait: Any = None) -> list[Any]:
        return [ref for ref in refs if store.stat(ref.key) is None]

    for module in (marks, head):
        patch.setattr(module, "unmark", unmark)


def sweep_without_taking(patch: pytest.MonkeyPatch) -> None:
    """A collection deletes the objects of a mark without setting the mark to ``sweeping``."""
    patch.setattr(gc, "rewrite_mark", lambda store, mark, state, keys: mark)


def look_after_the_record_only(patch: pytest.MonkeyPatch) -> None:
    """A writer checks its objects only after its record, so that a crash leaves a record without its objects."""
    original = marks.put_missing

    def put_missing(store: Any, puts: Any) -> None:
        before, store.looked = getattr(store, "looked", False), True
        if before:
            original(store, puts)

    patch.setattr(commit, "put_missing", put_missing)


def pull_without_check(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pull, "check_copy", lambda *arguments: None)


def stop_read_again(patch: pytest.MonkeyPatch) -> None:
    """The control is read again just before it is replaced, so that its tag always matches."""

    def write_control(store: Any, run: str, control: Any, seen: Any) -> bool:
        standing = get_or_none(store, control_key(run))
        value = {"wanted": control.wanted, "reason": control.reason, "request": control.request, "job": control.job}
        if standing is None:
            store.put(control_key(run), canonical_json(value), if_absent=True)
        else:
            store.put(control_key(run), canonical_json(value), if_match=standing[1])
        return True

    for module in (run_files, stops):
        patch.setattr(module, "write_control", write_control)


def equal_controls(patch: pytest.MonkeyPatch) -> None:
    """Equal controls have equal bytes, so that an old tag matches again."""
    patch.setattr(run_files, "canonical_json", lambda value: canonical_json({**value, "write": ""}))


def if_match_answers_404(patch: pytest.MonkeyPatch) -> None:
    """Replacing a deleted object gives 404 instead of a failed precondition, as on AWS."""
    patch.setattr(World, "answers_404_to_if_match", True)


def ids_by_the_local_clock(patch: pytest.MonkeyPatch) -> None:
    def start_attempt(store: Any, run: str, content: Any) -> str:
        attempt = attempt_id(int(run_files.store_now(store)), run_files.secrets.token_hex(2))
        store.put(attempt_key(run, attempt), canonical_json(dict(content)))
        return attempt

    patch.setattr(life, "start_attempt", start_attempt)


def release_by_name(patch: pytest.MonkeyPatch) -> None:
    def release(self: Any, name: str) -> None:
        self._taken.pop(name, None)
        self._store.delete(claim_key(self._run, name))

    patch.setattr(claims.Claims, "release", release)


def usage_gives_way(patch: pytest.MonkeyPatch) -> None:
    """A usage record is dropped if its number is taken."""

    def flush(self: Any) -> None:
        while self._unwritten:
            create(self._store, usage_key(self._run, self._attempt, self._number), self._unwritten.popleft())
            self._number += 1

    patch.setattr(run_files.UsageWriter, "flush", flush)


def one_origin(patch: pytest.MonkeyPatch) -> None:
    """The origin of a job contains namespace and release, but not the cluster."""
    patch.setattr(actors, "origin_of", lambda cluster: "zoos/zooforge")


def start_while_removing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(in_store, "check_not_removing", lambda *arguments: None)


def control_that_is_gone_stops_nobody(patch: pytest.MonkeyPatch) -> None:
    def is_stop_asked(store: Any, run: str) -> bool:
        control = run_files.read_control(store, run)
        return control is not None and control.wanted == "stopped"

    patch.setattr(actors, "is_stop_asked", is_stop_asked)


def publish_without_a_look(patch: pytest.MonkeyPatch) -> None:
    for module in (actors, removal):
        patch.setattr(module, "check_not_removed", lambda *arguments: None)


def spec_before_the_claim(patch: pytest.MonkeyPatch) -> None:
    """The spec is written when a job starts, and not once more when its driver has its claim."""

    def start_attempt(store: Any, run: str, content: Any) -> str:
        actors.register(store, actors.job("").zoo)
        return run_files.start_attempt(store, run, content)

    patch.setattr(life, "start_attempt", start_attempt)


MISTAKES: list[tuple[Mistake, Pair]] = [
    (no_look_at_marks, scenes.write_beside_sweep),
    (no_look_at_marks, scenes.publish_beside_sweep),
    (look_without_marks, scenes.write_beside_sweep),
    (sweep_without_taking, scenes.write_beside_sweep),
    (look_after_the_record_only, scenes.dying_writer_beside_sweep),
    (pull_without_check, scenes.pull_beside_partial_pull),
    (stop_read_again, scenes.start_beside_stop),
    (stop_read_again, scenes.resume_beside_stop),
    (equal_controls, scenes.resume_beside_stop),
    (if_match_answers_404, scenes.write_beside_sweep),
    (one_origin, scenes.supervisor_beside_supervisor),
    (ids_by_the_local_clock, scenes.start_after_start),
    (release_by_name, scenes.claim_beside_claim),
    (usage_gives_way, scenes.usage_beside_usage),
    (start_while_removing, scenes.start_beside_removal),
    (control_that_is_gone_stops_nobody, scenes.start_beside_removal),
    (spec_before_the_claim, scenes.start_beside_removal),
    (publish_without_a_look, scenes.publish_beside_removal),
]


@pytest.mark.parametrize(("mistake", "pair"), MISTAKES, ids=lambda item: item.__name__)
def test_the_simulation_notices_each_mistake_that_is_put_back(
    mistake: Mistake, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    with pytest.raises((Violation, StorageError)) as noticed:
        run_pair(pair)
    assert isinstance(noticed.value, Violation | ObjectNotFound)
