"""The account of one driver: renews its claim, writes usage records, stops the run at its caps."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zooforge.storage.keys import driver_claim, is_driver_claim
from zooforge.storage.runs.claims import Claims
from zooforge.storage.runs.run_files import UsageWriter, end_attempt, read_usage, stop_run
from zooforge.storage.stores.clock import StoreClock
from zooforge.storage.stores.protocol import ObjectStore

from ..events import Event, Observer, PartCommitted, Problem, Spent, UsageWritten, tell
from ..watching.totals import Meter
from .notice import Notice

if TYPE_CHECKING:
    from .inputs import Run

logger = logging.getLogger(__name__)

USAGE_SECONDS = 300.0
CLAIM_SECONDS = 30.0
GRACE_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits over the sum of all attempts of the run; None: no limit."""

    hours: float | None = None
    dollars: float | None = None


class Account:
    """An observer that writes usage records: every five minutes, soon after a worker was lost, and at the end.

    A record has pod_seconds, committed_seconds, wasted_seconds, dollars, preemptions, lost_epochs, retries (of tasks),
    store_retries (of requests) and read_bytes, each since the previous record; zeros may be left out. Wasted seconds
    are those that no commit accounts for: in each slot the time beyond the longest part so far, at the end the rest.

    Args:
        price: dollars per hour of all slots at present; None if it is not known.
        meter: of the driver's store; traffic from before the account began counts too.
        listeners: get every record.
    """

    def __init__(
        self,
        store: ObjectStore,
        run: "Run",
        attempt: str,
        slots: int,
        caps: Caps,
        price: Callable[[], float | None],
        meter: Meter,
        notice: Notice,
        listeners: Sequence[Observer] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._run, self._attempt, self._slots = store, run, attempt, slots
        self._caps, self._price, self._meter, self._notice = caps, price, meter, notice
        self._listeners, self._clock = listeners, clock
        self._since = self._claimed = clock()
        self._usage = UsageWriter(store, run.id, attempt)
        self._is_due = False
        self._counts: dict[str, float] = {}
        self._claims = Claims(store, run.id, attempt, StoreClock(store, clock))
        self._claim_name = driver_claim(attempt)
        self._claims.hold(self._claim_name)
        self.sums = read_usage(store, run.id)
        self._open = self._longest = 0.0  # pod-seconds neither committed nor wasted yet; seconds of the longest part
        if not any(is_driver_claim(name) for name in self._claims.others()):
            # No driver is alive: seconds of earlier drivers that were killed are wasted.
            rest = {name: self.sums.get(f"{name}_seconds", 0.0) for name in ("pod", "committed", "wasted")}
            self._count("wasted_seconds", max(0.0, rest["pod"] - rest["committed"] - rest["wasted"]))
        self.reason = ""
        self._dollars_before = self.sums.get("dollars", 0.0)

    def __call__(self, event: Event) -> None:
        match event:
            case Problem(kind="preempted"):
                self._count("preemptions", 1)
                self._is_due = True  # if the driver is killed too, the record has to be written already
            case Problem(kind="retried"):
                self._count("retries", 1)
            case Spent():
                self._count("lost_epochs", event.lost_epochs)
                self._count("store_retries", event.store_retries)
                self._count("read_bytes", event.read_bytes)
            case PartCommitted(won=True):
                seconds = event.train_seconds + event.commit_seconds
                self._count("committed_seconds", seconds)
                self._open -= seconds
                self._longest = max(self._longest, seconds)
            case _:
                pass

    def beat(self) -> None:
        """Renew the claim, write usage and check the caps when it is time. Call it every few seconds."""
        now = self._clock()
        if now - self._claimed > CLAIM_SECONDS:
            self._claimed = now
            self._claims.hold(self._claim_name)
        self._usage.flush()
        if self._is_due or now - self._since > USAGE_SECONDS:
            self._write()
        self._check_caps(now)

    def close(self, state: str, **facts: Any) -> None:
        """Write the last usage record, and how the attempt ended, with further ``facts``."""
        self._write(ended=True)
        end_attempt(self._store, self._run.id, self._attempt, {"state": state, **facts})
        self._claims.release(self._claim_name)

    def stop(self, reason: str) -> None:
        """Stop the run until it is started again; the workers commit what they are training."""
        self.reason = reason
        stop_run(self._store, self._run.id, reason)
        self._notice.give("stopped", GRACE_SECONDS)

    @property
    def dollars(self) -> float | None:
        """Cost of this attempt up to its last record; None if no price is known."""
        return self.sums["dollars"] - self._dollars_before if "dollars" in self.sums else None

    def _count(self, name: str, amount: float) -> None:
        if amount:
            self._counts[name] = self._counts.get(name, 0) + amount

    def _write(self, ended: bool = False) -> None:
        now = self._clock()
        before, self._since = self._since, now
        self._count("pod_seconds", self._slots * (now - before))
        self._open += self._slots * (now - before)
        under_way = 0.0 if ended else self._slots * self._longest if self._longest else self._open
        wasted = max(0.0, self._open - under_way)
        self._counts["wasted_seconds"] = (
            self._counts.get("wasted_seconds", 0.0) + wasted
        )  # also a zero, which says that waste is recorded
        self._open -= wasted
        if (price := self._price()) is not None:
            self._counts["dollars"] = self._counts.get("dollars", 0) + (now - before) / 3600 * price
        read_bytes, store_retries = self._meter.take()
        self._count("read_bytes", read_bytes)
        self._count("store_retries", store_retries)
        amounts, self._counts = self._counts, {}
        for name, amount in amounts.items():
            self.sums[name] = self.sums.get(name, 0) + amount
        self._is_due = False
        self._usage.write(amounts)
        tell(self._listeners, UsageWritten(self._run.name, self._run.stage, dict(self.sums)))

    def _check_caps(self, now: float) -> None:
        if self._notice.given:
            return
        hours = self.sums.get("pod_seconds", 0) / self._slots / 3600 + (now - self._since) / 3600
        dollars = self.sums.get("dollars", 0) + (now - self._since) / 3600 * (self._price() or 0)
        for cap, used, unit in ((self._caps.hours, hours, "hours"), (self._caps.dollars, dollars, "dollars")):
            if cap is not None and used >= cap:
                extra = {"kind": "cap", "zoo": self._run.name, "cap": cap, "unit": unit}
                logger.warning("a cap is reached", extra=extra)
                self.stop(f"the cap of {cap:g} {unit} is reached")
