"""Change bytes at random, or change a value in JSON. Pure: functions of the bytes and a generator."""

import json
from random import Random
from typing import Any

ODD_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, -(2**70), 0.5, 1e308, -0.0, "", "a", "0:3", "../../x", "é\u2028",
    "x" * 5000, [], [[]], [0], [[0, 1]], [[1, 0]], [[0, 2**40]], {}, {"a": 1}, {"": None},
)  # fmt: skip


def mutated(seeds: list[bytes], random: Random) -> bytes:
    """One of ``seeds`` with one to four changes. JSON is mostly changed as JSON, so that it still parses."""
    data = random.choice(seeds)
    if random.random() < 0.7 and (value := _json(data)) is not None:
        for _ in range(random.randint(1, 2)):
            value = _changed(value, random)
        return json.dumps(value, ensure_ascii=random.random() < 0.5, allow_nan=True).encode("utf-8", "surrogatepass")
    out = bytearray(data)
    for _ in range(random.randint(1, 4)):
        random.choice(_CHANGES)(out, random, seeds)
    return bytes(out)


def _json(data: bytes) -> Any:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def _changed(value: Any, random: Random) -> Any:
    """A copy in which one value, at any depth, is replaced, removed, duplicated or renamed."""
    if isinstance(value, dict) and value:
        key = random.choice(list(value))
        if isinstance(value[key], dict | list) and value[key] and random.random() < 0.75:
            return {**value, key: _changed(value[key], random)}
        match random.randrange(4):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {(f"{k}x" if k == key else k): v for k, v in value.items()}
            case _:
                return {**value, key: _other(value[key], random)}
    if isinstance(value, list) and value:
        at = random.randrange(len(value))
        if isinstance(value[at], dict | list) and value[at] and random.random() < 0.75:
            return [*value[:at], _changed(value[at], random), *value[at + 1 :]]
        match random.randrange(4):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return [*value, value[at]]
            case _:
                return [*value[:at], _other(value[at], random), *value[at + 1 :]]
    return _other(value, random)


def _other(value: Any, random: Random) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and random.random() < 0.5:
        return value + random.choice((-1, 1, -value, 10**6, -(10**6)))
    if isinstance(value, str) and value and random.random() < 0.5:
        at = random.randrange(len(value))
        return value[:at] + random.choice(("", "0", "/", "é", "\x00", "\n")) + value[at + 1 :]
    return random.choice(ODD_VALUES)


def _flip(out: bytearray, random: Random, seeds: list[bytes]) -> None:
    if out:
        out[random.randrange(len(out))] ^= 1 << random.randrange(8)


def _set(out: bytearray, random: Random, seeds: list[bytes]) -> None:
    if out:
        out[random.randrange(len(out))] = random.randrange(256)


def _number(out: bytearray, random: Random, seeds: list[bytes]) -> None:
    width = random.choice((1, 2, 4, 8))
    if len(out) >= width:
        at = random.randrange(len(out) - width + 1)
        number = random.choice(ODD_NUMBERS) % (1 << 8 * width)
        out[at : at + width] = number.to_bytes(width, random.choice(("little", "big")))


def _cut(out: bytearray, random: Random, seeds: list[bytes]) -> None:
    at, length = random.randrange(len(out) + 1), random.choice((1, 2, 8, 64, 4096))
    del out[at : at + length]


def _double(out: bytearray, random: Random, seeds: list[bytes]) -> None:
    at, length = random.randrange(len(out) + 1), random.choice((1, 2, 8, 64, 512))
    out[at:at] = out[at : at + length] * random.randint(1, 4)


def _truncate(out: bytearray, random: Random, seeds: list[bytes]) -> None:
    del out[random.randrange(len(out) + 1) :]


def _splice(out: bytearray, random: Random, seeds: list[bytes]) -> None:
    other = random.choice(seeds)
    at, begin = random.randrange(len(out) + 1), random.randrange(len(other) + 1)
    out[at : at + 64] = other[begin : begin + 64]


_CHANGES = (_flip, _flip, _set, _number, _cut, _double, _truncate, _splice)
