"""Claims: leases that keep a driver from training models that another driver trains. Commits are safe without them."""

from dataclasses import dataclass

from ..canonical import canonical_json, parse_json
from ..errors import PreconditionFailed
from ..keys import claim_key, claims_prefix
from ..stores.clock import StoreClock, store_now
from ..stores.protocol import ObjectStore, get_or_none
from .run_files import read_json

CLAIM_RENEW_SECONDS = 30.0
CLAIM_VOID_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Claim:
    """The attempt ``owner`` works on ``name``: it renewed the claim less than ``CLAIM_VOID_SECONDS`` ago."""

    name: str
    owner: str


class Claims:
    """The claims of one attempt. A claim is void when it was not renewed for CLAIM_VOID_SECONDS of the store's clock.

    Args:
        clock: the clock of the store; None: a new one is made.
    """

    def __init__(self, store: ObjectStore, run: str, attempt: str, clock: StoreClock | None = None) -> None:
        self._store = store
        self._run = run
        self._attempt = attempt
        self._clock = clock or StoreClock(store)
        self._held: set[str] = set()  # names that no other attempt writes
        self._taken: dict[str, str] = {}  # name to the etag of our last write
        self._num_writes = 0

    def hold(self, name: str) -> None:
        """Claim or renew ``name``, which only this attempt uses. Call this every CLAIM_RENEW_SECONDS."""
        self._store.put(claim_key(self._run, name), self._content(self._attempt))
        self._held.add(name)

    def take(self, name: str) -> bool:
        """Claim ``name`` unless another attempt holds it. If several attempts take it at once, one gets it."""
        content = get_or_none(self._store, claim_key(self._run, name))
        if content is None:
            return self._write(name, None)
        # A renewal after this read changes the etag, so our conditional put fails; a renewal before it is seen here.
        if self._owner(content[0], name) not in ("", self._attempt) and not self._is_void(name):
            return False
        return self._write(name, content[1])

    def renew(self, name: str) -> bool:
        """Keep a claim that was taken. False if it became void and another attempt holds it now."""
        return self._write(name, self._taken.get(name))

    def release(self, name: str) -> None:
        """Give the claim back. If another attempt took it over meanwhile, that attempt keeps it."""
        if name in self._held:
            self._held.remove(name)
            self._store.delete(claim_key(self._run, name))
        elif name in self._taken:
            # No store deletes conditionally, so the claim is written without a holder and its object stays.
            self._write(name, self._taken[name], owner="")
            self._taken.pop(name, None)

    def others(self) -> dict[str, Claim]:
        """Claims of other attempts that are not void, by name."""
        claims = read_claims(self._store, self._run, self._clock.now())
        return {name: claim for name, claim in claims.items() if claim.owner != self._attempt}

    def _owner(self, data: bytes, name: str) -> str:
        value = parse_json(data, claim_key(self._run, name))
        return str(value.get("attempt", "")) if isinstance(value, dict) else ""

    def _is_void(self, name: str) -> bool:
        stat = self._store.stat(claim_key(self._run, name))
        return stat is not None and self._clock.now() - stat.modified_seconds > CLAIM_VOID_SECONDS

    def _write(self, name: str, etag: str | None, owner: str | None = None) -> bool:
        key, data = claim_key(self._run, name), self._content(self._attempt if owner is None else owner)
        try:
            if etag is None:
                self._taken[name] = self._store.put(key, data, if_absent=True)
            else:
                self._taken[name] = self._store.put(key, data, if_match=etag)
        except PreconditionFailed:
            content = get_or_none(self._store, key)
            if content is None or content[0] != data:
                self._taken.pop(name, None)
                return False
            self._taken[name] = content[1]  # our write succeeded, but its reply was lost
        return True

    def _content(self, owner: str) -> bytes:
        """The content of a claim. It differs at every write, because some stores derive the etag from the content."""
        self._num_writes += 1
        return canonical_json({"attempt": owner, "by": self._attempt, "write": self._num_writes})


def read_claims(store: ObjectStore, run: str, now_seconds: float | None = None) -> dict[str, Claim]:
    """Claims that are not void, by name.

    Args:
        now_seconds: the time by the store's clock; None: estimated from the store's last reply, which is exact enough
            for a display.
    """
    prefix = claims_prefix(run)
    now = store_now(store) if now_seconds is None else now_seconds
    claims = {}
    for stat in store.list(prefix):
        if now - stat.modified_seconds > CLAIM_VOID_SECONDS:
            continue
        name = stat.key[len(prefix) :]
        value = read_json(store, stat.key)
        if value is not None and value.get("attempt"):
            claims[name] = Claim(name, str(value["attempt"]))
    return claims
