"""The targets of `zoo publish`: an address gives a target, which makes a plan and publishes."""

from collections.abc import Callable
from typing import Protocol

from ..errors import StoreURLError
from ..stores.open import open_store
from .hub import HubTarget
from .parcel import Parcel
from .plan import NO_LIMITS, Limits, Plan, plan_of
from .to_store import Published, publish_to_store, store_sizes
from .zenodo import SERVICES, ZenodoTarget

TARGETS = "DIR, s3://bucket/prefix, hf:OWNER/NAME, zenodo or zenodo-sandbox"
Progress = Callable[[int], None]


class Target(Protocol):
    """A place where a zoo is published."""

    name: str
    limits: Limits

    def plan(self, parcel: Parcel) -> Plan: ...

    def publish(self, parcel: Parcel, progress: Progress) -> Published: ...


class StoreTarget:
    """A folder or a bucket."""

    limits = NO_LIMITS

    def __init__(self, address: str) -> None:
        if address.startswith(("http://", "https://", "memory://")):
            raise StoreURLError(f"--to {address}: nothing can be written there; expected {TARGETS}")
        self.name = address.rstrip("/") or address
        self._store = open_store(address)

    def plan(self, parcel: Parcel) -> Plan:
        return plan_of(parcel.manifest, self.name, store_sizes(parcel, 1), self.limits, left_out=parcel.left_out)

    def publish(self, parcel: Parcel, progress: Progress) -> Published:
        return publish_to_store(parcel, self._store, self.name, progress=progress)


def target_of(address: str, *, private: bool = False, publish_draft: bool = False) -> Target:
    """The target of ``--to``.

    Args:
        private: keep a data set that is made on the Hub private.
        publish_draft: publish on Zenodo, which cannot be undone, instead of leaving a draft.

    Raises:
        StoreURLError: no target; the message lists them.
    """
    if address.startswith("hf:"):
        return HubTarget(address, private)
    if address in SERVICES:
        return ZenodoTarget(address, publish_draft)
    return StoreTarget(address)
