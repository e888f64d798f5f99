"""Control, attempts and usage of a run: no stop is lost, no attempt is hidden, each amount is counted once."""

import pytest

from tests.support.faulty_store import FaultyStore
from zooforge.storage.errors import StoreUnreachable
from zooforge.storage.keys import usage_key
from zooforge.storage.runs.run_files import (
    Control,
    UsageWriter,
    add_usage,
    read_attempts,
    read_control,
    read_usage,
    start_attempt,
    stop_run,
    want_run,
    write_control,
)
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.protocol import Data

RUN = "ab" * 16
ATTEMPT = "20261124T100000Z-0001"
HOUR = 3600.0


def wanted(store: MemoryStore) -> Control:
    control = read_control(store, RUN)
    assert control is not None
    return control


def test_a_stop_that_comes_after_the_control_was_read_is_kept() -> None:
    store = MemoryStore()
    assert want_run(store, RUN, {"epochs": 2}, None) is None
    seen = read_control(store, RUN)
    stop_run(store, RUN, "enough")
    stop = want_run(store, RUN, {"epochs": 3}, seen)
    assert stop is not None and stop.reason == "enough"
    assert (wanted(store).wanted, wanted(store).request) == ("stopped", {"epochs": 2})


def test_a_stop_that_was_seen_is_taken_back() -> None:
    store = MemoryStore()
    stop_run(store, RUN, "enough")
    assert want_run(store, RUN, {"epochs": 3}, read_control(store, RUN), job="j") is None
    assert wanted(store) == Control("run", "", {"epochs": 3}, "j")
    stop_run(store, RUN, "again")
    assert wanted(store) == Control("stopped", "again", {"epochs": 3}, "j")


class LosesOneReply(FaultyStore):
    """The first conditional put is done and its reply lost; ``meanwhile`` happens before the client tries it again."""

    def __init__(self, store: MemoryStore, meanwhile: object) -> None:
        super().__init__(store)
        self._meanwhile = meanwhile

    def put(self, key: str, data: Data, *, if_absent: bool = False, if_match: str | None = None) -> str:
        meanwhile, self._meanwhile = self._meanwhile, None
        if callable(meanwhile):
            self.inner.put(key, data, if_absent=if_absent, if_match=if_match)
            meanwhile()
        return self.inner.put(key, data, if_absent=if_absent, if_match=if_match)


@pytest.mark.parametrize("stopped_before", [False, True])
def test_a_stop_between_a_lost_reply_and_the_next_try_is_kept(stopped_before: bool) -> None:
    """Also where the same stop was there before, and the store derives the etag from the content."""
    store = MemoryStore()
    if stopped_before:
        stop_run(store, RUN, "enough")
    losing = LosesOneReply(store, lambda: stop_run(store, RUN, "enough"))
    stop = want_run(losing, RUN, {}, read_control(store, RUN))
    assert stop is not None
    assert wanted(store).wanted == "stopped"


def test_a_lost_reply_to_a_control_is_a_success() -> None:
    store = MemoryStore()
    assert write_control(LosesOneReply(store, lambda: None), RUN, Control("run"), None)


def test_a_node_that_is_an_hour_ahead_hides_no_later_attempt() -> None:
    store = MemoryStore()
    ahead = start_attempt(store, RUN, {"node": "ahead"}, now_seconds=1e9 + HOUR)
    later = start_attempt(store, RUN, {"node": "exact"}, now_seconds=1e9 + 60)
    last = start_attempt(store, RUN, {"node": "behind"}, now_seconds=1e9 - HOUR)
    assert [attempt.id for attempt in read_attempts(store, RUN)] == [ahead, later, last]


def test_a_usage_record_whose_number_is_taken_gets_the_next_one() -> None:
    store = MemoryStore()
    first, second = UsageWriter(store, RUN, ATTEMPT), UsageWriter(store, RUN, ATTEMPT)
    for _ in range(2):
        first.write({"dollars": 1.0})
        second.write({"dollars": 1.0})
    add_usage(store, RUN, ATTEMPT, {"verified_epochs": 7})
    assert read_usage(store, RUN) == {"dollars": 4.0, "verified_epochs": 7}


@pytest.mark.parametrize("landed", [False, True])
def test_a_usage_record_that_got_no_reply_is_counted_once(landed: bool) -> None:
    store = MemoryStore()

    def lose(verb: str, key: str) -> None:
        if key == usage_key(RUN, ATTEMPT, 0) and verb == "put":
            raise StoreUnreachable(key)

    broken = FaultyStore(store, *([lambda verb, key: None, lose] if landed else [lose]))
    writer = UsageWriter(broken, RUN, ATTEMPT)
    with pytest.raises(StoreUnreachable):
        writer.write({"dollars": 1.0})
    broken.fault = broken.after = lambda verb, key: None
    writer.write({"dollars": 0.5})
    assert read_usage(store, RUN) == {"dollars": 1.5}
