"""The one function by which all callers wait for a store, tested with a fake clock."""

import pytest

from zooforge.storage.errors import StorageError, StoreUnreachable
from zooforge.storage.stores.retries import RetryPolicy


class Time:
    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def away(transient: bool = True) -> StorageError:
    error = StoreUnreachable("no answer")
    error.transient = transient
    return error


def test_pauses_double_up_to_their_limit_until_the_budget_is_spent() -> None:
    time = Time()

    def request() -> None:
        raise away()

    policy = RetryPolicy(60.0, first_pause_seconds=1.0, max_pause_seconds=10.0, jitter=False)
    with pytest.raises(StoreUnreachable):
        policy.call(request, clock=lambda: time.now, sleep=time.sleep)
    assert time.pauses == [1, 2, 4, 8, 10, 10, 10, 10]


def test_a_pause_with_jitter_is_no_longer_than_its_limit() -> None:
    time = Time()
    answers = iter([away(), away(), away(), None])

    def request() -> str:
        error = next(answers)
        if error is not None:
            raise error
        return "here"

    assert RetryPolicy(60.0, 1.0, 10.0).call(request, clock=lambda: time.now, sleep=time.sleep) == "here"
    assert len(time.pauses) == 3 and all(pause <= limit for pause, limit in zip(time.pauses, [1, 2, 4], strict=True))


def test_a_permanent_error_is_not_retried() -> None:
    def request() -> None:
        raise away(transient=False)

    with pytest.raises(StoreUnreachable):
        RetryPolicy(60.0).call(request, sleep=lambda seconds: pytest.fail("it waited"))


def test_the_callback_of_a_retry_may_give_up() -> None:
    def give_up(error: StorageError) -> None:
        raise KeyboardInterrupt

    def request() -> None:
        raise away()

    with pytest.raises(KeyboardInterrupt):
        RetryPolicy(60.0).call(request, on_retry=give_up, sleep=lambda seconds: pytest.fail("it waited"))
