"""Notes, in the folder of a run, of who published versions of its zoo, and of publications that were refused."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..canonical import canonical_json
from ..keys import attempt_id, attempt_seconds, publication_key, publications_prefix, run_key
from ..stores.clock import store_now
from ..stores.protocol import ObjectStore
from .run_files import read_json


@dataclass(frozen=True, slots=True)
class Publication:
    """The newest publication of a run.

    Attributes:
        seconds: Unix time by the store's clock.
        version: number of the version; None if the publication was refused.
        refused: why, else empty.
        content: the whole note: also who published.
    """

    seconds: float
    version: int | None
    refused: str
    content: dict[str, Any]


def note_publication(store: ObjectStore, run: str, content: Mapping[str, Any]) -> None:
    """Write a note with ``version``, or with ``refused``, a sentence. Without a run in the store nothing is written.

    The key is new at every call, so that stores whose conditional writes cannot be relied on take the note too.
    """
    if store.stat(run_key(run)) is None:
        return
    notes = _notes(store, run)
    now = max(int(store_now(store)), 1 + int(attempt_seconds(notes[-1])) if notes else 0)
    store.put(publication_key(run, attempt_id(now, secrets.token_hex(2))), canonical_json(dict(content)))


def read_publication(store: ObjectStore, run: str) -> Publication | None:
    """The newest note; None if there is none."""
    notes = _notes(store, run)
    content = read_json(store, publication_key(run, notes[-1])) if notes else None
    if content is None:
        return None
    version = content.get("version")
    number = version if isinstance(version, int) else None
    return Publication(attempt_seconds(notes[-1]), number, str(content.get("refused") or ""), content)


def _notes(store: ObjectStore, run: str) -> list[str]:
    """Ids of the notes, oldest first."""
    prefix = publications_prefix(run)
    return sorted(stat.key.removeprefix(prefix).removesuffix(".json") for stat in store.list(prefix))
