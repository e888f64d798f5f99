"""Claims: leases that keep drivers from training what another driver trains. Commits do not need them."""

from dataclasses import dataclass

from ..canonical import canonical_json
from ..errors import PreconditionFailed
from ..keys import claim_key, claims_prefix
from ..stores.protocol import ObjectStore, get_or_none, store_now
from .run_files import read_json

CLAIM_RENEW_SECONDS = 30.0
CLAIM_VOID_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody said that they work on ``name``; ``age_seconds`` by the store's clock."""

    name: str
    owner: str
    age_seconds: float


class Claims:
    """Leases of one attempt: they keep drivers from working twice, commits do not need them.

    Age is the difference of two times of the store's own clock, the younger one of an object written just now.
    """

    def __init__(self, store: ObjectStore, run: str, attempt: str) -> None:
        self._store = store
        self._run = run
        self._attempt = attempt
        self._taken: dict[str, str] = {}  # etags of the claims that only one may have
        self._writes = 0

    def hold(self, name: str) -> None:
        """Claim ``name``, or renew the claim, whoever else does; to be called every CLAIM_RENEW_SECONDS."""
        self._store.put(claim_key(self._run, name), self._content())

    def take(self, name: str) -> bool:
        """Claim ``name`` unless somebody else has it and keeps it alive: of several who take it at once, one does."""
        found = get_or_none(self._store, claim_key(self._run, name))
        # In this order: whoever renews after this look changes the etag, before it a time that ``others`` sees.
        if found is not None and name in self.others():
            return False
        return self._write(name, None if found is None else found[1])

    def renew(self, name: str) -> bool:
        """Keep a claim that was taken; False if it became void meanwhile and somebody else has it now."""
        return self._write(name, self._taken.get(name))

    def release(self, name: str) -> None:
        self._taken.pop(name, None)
        self._store.delete(claim_key(self._run, name))

    def others(self) -> dict[str, Claim]:
        """Claims of other attempts that are not void, by name."""
        own = f"clock-{self._attempt}"
        self.hold(own)
        claims = read_claims(self._store, self._run, clock=own)
        self.release(own)
        return {name: claim for name, claim in claims.items() if claim.owner != self._attempt}

    def _write(self, name: str, etag: str | None) -> bool:
        key, data = claim_key(self._run, name), self._content()
        try:
            if etag is None:
                self._taken[name] = self._store.put(key, data, if_absent=True)
            else:
                self._taken[name] = self._store.put(key, data, if_match=etag)
        except PreconditionFailed:
            found = get_or_none(self._store, key)
            if found is None or found[0] != data:
                self._taken.pop(name, None)
                return False
            self._taken[name] = found[1]  # written, and the reply was lost
        return True

    def _content(self) -> bytes:
        """Different at every write: some stores derive the etag from the content."""
        self._writes += 1
        return canonical_json({"attempt": self._attempt, "write": self._writes})


def read_claims(store: ObjectStore, run: str, clock: str | None = None) -> dict[str, Claim]:
    """Claims that are not void, by name.

    Args:
        clock: a claim that was renewed just now, whose time is the store's now; without it, what the store said last
            of its clock, or else this machine's, which is good enough to show.
    """
    prefix = claims_prefix(run)
    stats = {stat.key[len(prefix) :]: stat for stat in store.list(prefix)}
    now = stats[clock].modified_seconds if clock in stats else store_now(store)
    claims = {}
    for name, stat in stats.items():
        age = now - stat.modified_seconds
        if name.startswith("clock-") or age > CLAIM_VOID_SECONDS:
            continue
        value = read_json(store, stat.key)
        if value is not None:
            claims[name] = Claim(name, str(value.get("attempt", "")), max(0.0, age))
    return claims
