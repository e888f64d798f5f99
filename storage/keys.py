"""The only place where an object key is formatted or parsed. Pure. Keys are relative to the store's prefix."""

import calendar
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .canonical import digest_of
from .errors import KeyFormatError

ObjectKind = Literal["safetensors", "parquet"]

UNIT_DIGITS = 7
PART_DIGITS = 5
VERSION_DIGITS = 4

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_RUN = re.compile(r"[0-9a-f]{8,64}")
_ATTEMPT = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}")
_ATTEMPT_KEY = re.compile(rf"runs/[0-9a-f]{{8,64}}/attempts/(?P<attempt>{_ATTEMPT.pattern})(?P<end>\.end)?\.json")
_SOURCE = re.compile(r"[A-Za-z0-9._-]{1,80}")
_RECORD = re.compile(
    rf"runs/(?P<run>[0-9a-f]{{8,64}})/parts/(?P<unit>[0-9]{{{UNIT_DIGITS}}})-(?P<members8>[0-9a-f]{{8}})/"
    rf"(?P<part>[0-9]{{{PART_DIGITS}}})(?P<refill>\.refill)?\.json"
)
_OBJECT = re.compile(r"objects/sha256/(?P<two>[0-9a-f]{2})/(?P<sha256>[0-9a-f]{64})\.(?P<kind>safetensors|parquet)")
_VERSION = re.compile(rf"zoos/(?P<zoo>[a-z0-9-]+)/versions/(?P<version>[0-9]{{{VERSION_DIGITS},18}})/manifest\.json")

_ADDRESS = re.compile(
    r"(?:(?P<store>.*)(?P<slash>/))?zoos/(?P<zoo>[^/]+)(?:/versions/(?P<version>[0-9]{1,18}))?", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class RecordKey:
    """The parsed key of a commit record. ``members8`` is the start of the digest of the member list."""

    run: str
    unit: int
    members8: str
    part: int
    refill: bool = False

    @property
    def folder(self) -> str:
        return f"{self.unit:0{UNIT_DIGITS}d}-{self.members8}"

    @property
    def prefix(self) -> str:
        """Prefix of the records of all parts of the same members."""
        return f"{parts_prefix(self.run)}{self.folder}/"

    def __str__(self) -> str:
        suffix = ".refill.json" if self.refill else ".json"
        return f"{self.prefix}{self.part:0{PART_DIGITS}d}{suffix}"


def run_prefix(run: str) -> str:
    return f"{RUNS_PREFIX}{_checked(_RUN, run, 'run id', 'hex digits')}/"


def run_key(run: str) -> str:
    return f"{run_prefix(run)}run.json"


def pin_key(run: str) -> str:
    return f"{run_prefix(run)}pin.json"


def code_key(run: str) -> str:
    return f"{run_prefix(run)}code.py"


def control_key(run: str) -> str:
    return f"{run_prefix(run)}control.json"


def chunk_key(run: str, engine: str) -> str:
    """Key of the chunk size that an engine uses after workers ran out of memory."""
    return f"{run_prefix(run)}chunks/{engine}.json"


def attempt_id(seconds: float, token: str) -> str:
    """Id of an attempt that starts at a Unix time; ``token`` is 4 random hex digits."""
    return _attempt(f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(seconds))}-{token}")


def attempt_seconds(attempt: str) -> float:
    """Unix time at which the attempt of this id started."""
    return float(calendar.timegm(time.strptime(attempt[:16], "%Y%m%dT%H%M%SZ")))


def attempts_prefix(run: str) -> str:
    return f"{run_prefix(run)}attempts/"


def attempt_key(run: str, attempt: str) -> str:
    return f"{attempts_prefix(run)}{_attempt(attempt)}.json"


def attempt_end_key(run: str, attempt: str) -> str:
    return f"{attempts_prefix(run)}{_attempt(attempt)}.end.json"


def parse_attempt_key(key: str) -> tuple[str, bool] | None:
    """(attempt, whether it is the record of its end); None if ``key`` is not one of an attempt."""
    match = _ATTEMPT_KEY.fullmatch(key)
    if match is None:
        return None
    try:
        attempt_seconds(match["attempt"])
    except ValueError:  # e.g. a month 99
        return None
    return match["attempt"], match["end"] is not None


def publications_prefix(run: str) -> str:
    return f"{run_prefix(run)}publications/"


def publication_key(run: str, note: str) -> str:
    """Key of a note about a publication; ``note`` has the form of an attempt's id."""
    return f"{publications_prefix(run)}{_attempt(note)}.json"


def parts_prefix(run: str) -> str:
    return f"{run_prefix(run)}parts/"


def members8(members: Sequence[int]) -> str:
    """First 8 hex digits of the digest of the member list."""
    return digest_of([int(m) for m in members])[:8]


def record_key(run: str, unit: int, members: Sequence[int], part: int, refill: bool = False) -> RecordKey:
    """Key of the record that commits ``part`` of ``members`` (ascending model indices) of ``unit``."""
    if not (0 <= unit < 10**UNIT_DIGITS and 0 <= part < 10**PART_DIGITS):
        raise KeyFormatError(f"unit {unit} or part {part} is out of range")
    return RecordKey(run, int(unit), members8(members), int(part), refill)


def parse_record_key(key: str) -> RecordKey | None:
    """The parsed key; None if ``key`` is not one of a record."""
    match = _RECORD.fullmatch(key)
    if match is None:
        return None
    return RecordKey(
        match["run"], int(match["unit"]), match["members8"], int(match["part"]), match["refill"] is not None
    )


def usage_prefix(run: str) -> str:
    return f"{run_prefix(run)}usage/"


def attempt_usage_prefix(run: str, attempt: str) -> str:
    return f"{usage_prefix(run)}{_attempt(attempt)}/"


def usage_key(run: str, attempt: str, number: int) -> str:
    return f"{attempt_usage_prefix(run, attempt)}{number:06d}.json"


def claims_prefix(run: str) -> str:
    return f"{run_prefix(run)}claims/"


def claim_key(run: str, name: str) -> str:
    return f"{claims_prefix(run)}{_checked(_SOURCE, name, 'claim', 'letters, digits, dot, dash')}"


def task_claim(unit: int, members: Sequence[int]) -> str:
    return f"{unit:0{UNIT_DIGITS}d}-{members8(members)}"


def driver_claim(attempt: str) -> str:
    """Name of the claim that says that the driver of an attempt is alive."""
    return f"driver-{_attempt(attempt)}"


def is_driver_claim(name: str) -> bool:
    return name.startswith("driver-")


def logs_prefix(run: str) -> str:
    return f"{run_prefix(run)}logs/"


def log_key(run: str, attempt: str, source: str, number: int) -> str:
    source = _checked(_SOURCE, source, "log source", "letters, digits, dot, dash")
    return f"{logs_prefix(run)}{_attempt(attempt)}/{source}/{number:06d}.jsonl"


OBJECTS_PREFIX = "objects/sha256/"


def object_key(sha256: str, kind: ObjectKind) -> str:
    return f"{OBJECTS_PREFIX}{sha256[:2]}/{sha256}.{kind}"


def parse_object_key(key: str) -> tuple[str, str] | None:
    """(sha256, kind); None if ``key`` is not one of a content-addressed object."""
    match = _OBJECT.fullmatch(key)
    if match is None or match["sha256"][:2] != match["two"]:
        return None
    return match["sha256"], match["kind"]


RUNS_PREFIX = "runs/"
ZOOS_PREFIX = "zoos/"


def zoo_prefix(zoo: str) -> str:
    return f"{ZOOS_PREFIX}{_checked(_NAME, zoo, 'zoo name', 'lower case letters, digits and single dashes')}/"


def spec_key(zoo: str) -> str:
    return f"{zoo_prefix(zoo)}spec.json"


def head_key(zoo: str) -> str:
    return f"{zoo_prefix(zoo)}HEAD"


def version_prefix(zoo: str, version: int) -> str:
    return f"{zoo_prefix(zoo)}versions/{version:0{VERSION_DIGITS}d}/"


def manifest_key(zoo: str, version: int) -> str:
    return f"{version_prefix(zoo, version)}manifest.json"


def copy_key(zoo: str, version: int, name: str) -> str:
    """Key of a courtesy copy of a version, e.g. README.md."""
    return f"{version_prefix(zoo, version)}{name}"


def parse_zoo_key(key: str) -> str | None:
    """The zoo that a key under ``zoos/`` belongs to; None for any other key."""
    pieces = key.split("/")
    return pieces[1] if len(pieces) > 2 and pieces[0] == "zoos" else None


def zoo_url(store_url: str, zoo: str) -> str:
    """``STORE/zoos/NAME``: what ``open_zoo`` takes."""
    return f"{store_url.rstrip('/')}/{ZOOS_PREFIX}{zoo}"


def parse_zoo_url(address: str) -> tuple[str, str, int | None] | None:
    """(store, zoo name, version or None) of ``STORE/zoos/NAME[/versions/NUMBER]``; None if it is not of this form."""
    match = _ADDRESS.fullmatch(address.rstrip("/"))
    if match is None:
        return None
    version = match["version"]
    return match["store"] or ("/" if match["slash"] else "."), match["zoo"], None if version is None else int(version)


def parse_manifest_key(key: str) -> tuple[str, int] | None:
    """(zoo, version); None if ``key`` is not one of a manifest."""
    match = _VERSION.fullmatch(key)
    return None if match is None else (match["zoo"], int(match["version"]))


def dataset_key(dataset: str, digest: str, name: str) -> str:
    return f"datasets/{_checked(_NAME, dataset, 'dataset', 'lower case letters, digits and dashes')}/{digest}/{name}"


GC_PREFIX = "gc/"


def gc_key(number: int) -> str:
    """Key of a list of objects that no record or manifest names. The first phase of a collection writes it."""
    return f"{GC_PREFIX}{number:010d}.json"


def probe_key(name: str) -> str:
    """Key of an object that is written to test a store, and deleted after the test."""
    return f"probe/{name}"


def parse_run(key: str) -> str | None:
    """The run that a key under ``runs/`` belongs to."""
    pieces = key.split("/")
    return pieces[1] if len(pieces) > 2 and pieces[0] == "runs" and _RUN.fullmatch(pieces[1]) else None


def checked_key(key: str) -> str:
    """``key`` itself. Raises KeyFormatError for what could leave a prefix or hide in a directory."""
    if not key or key.endswith("/") or any(part.startswith(".") or not part for part in key.split("/")):
        raise KeyFormatError(f"{key!r} is no object key: empty, hidden or relative segments are refused")
    if "\\" in key or "\0" in key or len(key.encode()) > 900:
        raise KeyFormatError(f"{key[:60]!r} is no object key: backslash, NUL or more than 900 bytes")
    return key


def _attempt(attempt: str) -> str:
    return _checked(_ATTEMPT, attempt, "attempt", "a UTC second and 4 hex digits")


def _checked(pattern: re.Pattern[str], value: str, what: str, expected: str) -> str:
    if pattern.fullmatch(value) is None:
        raise KeyFormatError(f"{what} {value[:80]!r}: expected {expected}")
    return value
