"""Canonical JSON: equal values give equal bytes. Reading it is bounded by a budget. Pure."""

import hashlib
import json
import math
import re
from typing import Any

from . import budget
from .budget import Meter
from .errors import FormatError

# Digits become 0, what can stand before a number becomes a comma: integers of 19 digits and more are then one search.
_DIGITS = bytes(48 if chr(byte).isdigit() else 44 if chr(byte) in "[,: \t\r\n-" else 120 for byte in range(256))
_LONG_INTEGER = 19 * b"0"
_STRING = re.compile(rb'"[^"]*"')
_ONE_KIND_OF_BRACKET = bytes.maketrans(b"{}", b"[]")
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys, no spaces, numbers as Python's ``repr`` writes them.

    Args:
        value: dicts with string keys, lists, tuples, strings, booleans, None, integers and finite floats.

    Raises:
        ValueError: a float that is not finite. TypeError: any other type, numpy's scalars included.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def parse_json(data: bytes, what: str) -> Any:
    """Value of JSON bytes. Every value can be written again by ``canonical_json``.

    Raises:
        BudgetExceeded: more bytes, values or levels than ``budget.JSON`` allows.
        FormatError: not UTF-8 JSON, an object that names a key twice, a number that is not finite or an integer that
            needs more than 64 bits, half of a surrogate pair. The message begins with ``what``.
    """
    meter = budget.JSON.meter(what)
    meter.add(num_bytes=len(data))
    meter.add(num_elements=data.count(b",") + data.count(b"[") + data.count(b"{"))
    _check_depth(data, meter)
    hooks: dict[str, Any] = {"object_pairs_hook": _unique_keys, "parse_constant": _no_constant, "parse_float": _finite}
    digits = data.translate(_DIGITS)
    if (
        digits.startswith(_LONG_INTEGER) or b"," + _LONG_INTEGER in digits
    ):  # a hook for every integer would cost half of the parser's time
        hooks["parse_int"] = _integer
    try:
        value = json.loads(data.decode(), **hooks)
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise FormatError(f"{what}: a string holds half of a surrogate pair, which is no text") from None
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what}: not readable JSON ({error}); the object is truncated or damaged") from None
    return value


def json_integer(value: Any) -> int:
    """``value`` itself. Raises ValueError if it is no integer, or a boolean."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is no integer")
    return value


def json_text(value: Any) -> str:
    """``value`` itself. Raises ValueError if it is no string."""
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:100]!r} is no text")
    return value


def sha256_hex(data: bytes | bytearray | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256 over the canonical JSON of ``value``, hex."""
    return sha256_hex(canonical_json(value))


def _check_depth(data: bytes, meter: Meter) -> None:
    """Raises BudgetExceeded for too many levels of nesting, before the parser recurses into them."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = data.translate(_ONE_KIND_OF_BRACKET, _NOT_STRUCTURE).replace(b'""', b"")
    if b'"' in brackets:
        brackets = _STRING.sub(b"", brackets)
    depth = 0
    while brackets:
        inner = brackets.replace(b"[]", b"")
        if len(inner) == len(brackets):
            return  # not balanced; the parser reports the place
        brackets = inner
        depth += 1
        meter.check_depth(depth)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"key {name[:80]!r} occurs twice")
            seen.add(name)
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


def _integer(text: str) -> int:
    value = int(text) if len(text) <= 20 else 2**64
    if not -(2**63) <= value < 2**64:
        raise ValueError(f"integer {text[:40]} needs more than 64 bits")
    return value
