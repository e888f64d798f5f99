"""JSON from outside costs no more than its reading budget, and ends in a named error of one line."""

import pytest

from tests.support.paths import ROOT
from zooforge.storage import budget
from zooforge.storage.budget import Budget
from zooforge.storage.canonical import parse_json
from zooforge.storage.errors import BudgetExceeded, FormatError


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[" + 30 * b"9" + b"]", "64 bits"),
        (b"-9223372036854775809", "64 bits"),
        (5000 * b"1", "64 bits"),
        (b'{"a":1e999}', "too large"),
        (b'["\\ud800"]', "surrogate"),
        (b'{"\\udfff":1}', "surrogate"),
    ],
)
def test_values_that_cannot_be_written_again_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(FormatError, match=r"^what: ") as raised:
        parse_json(data, "what")
    assert words in str(raised.value) and "\n" not in str(raised.value) and len(str(raised.value)) < 300


def test_large_values_that_fit_are_read() -> None:
    data = b'[18446744073709551615,-9223372036854775808,1e308,"\\ud83d\\ude00","0000000000000000000000"]'
    assert parse_json(data, "what") == [2**64 - 1, -(2**63), 1e308, "\U0001f600", "0000000000000000000000"]


@pytest.mark.parametrize("pair", [("[", "]"), ('{"a":', "}"), ('["]]]]",[', "]]"), ('{"\\"]}":[', "]}")])
def test_nesting_is_counted_outside_of_strings(pair: tuple[str, str]) -> None:
    levels = budget.JSON.max_depth // (2 if "[" in pair[0][1:] else 1)
    parse_json((levels * pair[0] + "1" + levels * pair[1]).encode(), "what")
    with pytest.raises(BudgetExceeded, match="levels of nesting"):
        parse_json(((levels + 1) * pair[0] + "1" + (levels + 1) * pair[1]).encode(), "what")


def test_a_hundred_thousand_open_brackets_are_refused() -> None:
    with pytest.raises(FormatError, match="not readable JSON"):
        parse_json(100_000 * b"[", "what")


def test_a_repeated_key_is_found_without_comparing_every_pair() -> None:
    compared = 0

    class Key(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    from zooforge.storage import canonical

    pairs = [(Key(number), None) for number in range(20_000)]
    with pytest.raises(ValueError, match="'19999' occurs twice"):
        canonical._unique_keys([*pairs, (Key(19_999), None)])
    assert compared < 100_000


def test_more_values_than_the_budget_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "JSON", Budget(max_bytes=1000, max_elements=10))
    assert parse_json(b"[1,2,3]", "what") == [1, 2, 3]
    with pytest.raises(BudgetExceeded, match="what: 20 elements, the limit is 10"):
        parse_json(b"[" + b",".join(20 * [b"1"]) + b"]", "what")
    with pytest.raises(BudgetExceeded, match="what: 1,001 bytes"):
        parse_json(1001 * b" ", "what")


def test_a_meter_ends_with_its_time() -> None:
    now = [0.0]
    meter = Budget(max_bytes=1, max_seconds=5).meter("reply", clock=lambda: now[0])
    meter.check_time()
    now[0] = 5.0
    with pytest.raises(BudgetExceeded, match="reply: not read within 5 seconds"):
        meter.check_time()


def test_security_md_states_every_budget() -> None:
    page = (ROOT / "SECURITY.md").read_text()
    for name, value in vars(budget).items():
        if isinstance(value, Budget):
            size = f"{value.max_bytes // budget.MiB:g} MiB"
            if value.max_bytes % budget.GiB == 0:
                size = f"{value.max_bytes // budget.GiB} GiB"
            row = f"| `{name}` | {size} | {value.max_elements:,} | {value.max_depth} | {value.max_seconds:g} |"
            assert row in page
