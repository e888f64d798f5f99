"""The restricted unpickler reads arrays and plain values, and never runs code."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zooforge.storage.budget import Budget
from zooforge.storage.errors import BudgetExceeded, FormatError
from zooforge.storage.formats.restricted_pickle import load

VALUE = {
    b"data": np.arange(12, dtype=np.uint8).reshape(3, 4),
    b"labels": [1, 2, 3],
    "big-endian": np.ones(3, ">f4"),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "plain": (None, True, -5, 2.5, "text", [(), {}]),
}


def same(actual: Any, expected: Any) -> bool:
    if isinstance(expected, np.ndarray):
        return (
            bool(np.array_equal(actual, expected)) and actual.dtype == expected.dtype and actual.shape == expected.shape
        )
    if isinstance(expected, dict):
        return set(actual) == set(expected) and all(same(actual[k], v) for k, v in expected.items())
    return bool(actual == expected)


@pytest.mark.parametrize("protocol", range(5))
def test_arrays_and_plain_values_are_read_from_every_protocol(protocol: int) -> None:
    assert same(load(pickle.dumps(VALUE, protocol), "value"), VALUE)


def test_a_python_2_pickle_of_an_array_is_read() -> None:
    """Pickles of Python 2, with array bytes and dtype codes as its strings."""
    stream = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85"
        b"U\x01b\x87Rq\x05(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff"
        b"\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06\x01\x02\x03\xfd\xfe\xfftbu."
    )
    loaded = load(stream, "batch")
    assert loaded[b"data"].tolist() == [[1, 2, 3], [253, 254, 255]]
    assert loaded[b"data"].flags.owndata
    assert loaded[b"data"].flags.writeable


class Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


@pytest.mark.parametrize("function", [print, eval, exec, __import__, getattr, open, pickle.loads, np.load, np.memmap])
@pytest.mark.parametrize("protocol", range(6))
def test_a_function_is_never_called(function: Any, protocol: int) -> None:
    with pytest.raises(FormatError, match="which is not on the allow-list"):
        load(pickle.dumps({"a": [Runs(function, "1")]}, protocol), "value")


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"", "EOFError"),
        (b"\x80\x02}", "EOFError"),
        (b"Pname\n.", "unsupported|dispatch|key|80|P"),
        (b"\x80\x02cnumpy\nndarray\n}b.", "gives a state to a type"),
        (b"\x80\x02]}b.", "gives a state to a list"),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.", "150"),
        (b"\x80\x02]q\x00h\x00a.", "holds itself"),
        (b"\x80\x02cnumpy\ndtype\nU\x01OK\x00K\x01\x87R.", "arrays of 'O' are not read"),
        (b"\x80\x02c_codecs\nencode\nU\x01xU\x05rot13\x86R.", "encoding"),
    ],
)
def test_damaged_and_malicious_pickles_are_refused_in_one_line(stream: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason) as refusal:
        load(stream, "value")
    assert "\n" not in str(refusal.value)


def nested(levels: int, value: Any = ()) -> Any:
    """A pickle of a few bytes whose value has 2 ** levels parts."""
    for _ in range(levels):
        value = type(value)([value, value])
    return value


def test_shared_parts_do_not_multiply() -> None:
    value = load(pickle.dumps(nested(15, [])), "value")
    assert value[0] is value[1]


@pytest.mark.parametrize("empty", [(), []])
def test_a_value_too_large_to_traverse_is_refused(empty: Any) -> None:
    with pytest.raises(FormatError, match="unfolds to more than"):
        load(pickle.dumps(nested(60, empty)), "value")
    with pytest.raises(FormatError, match="levels of nesting"):
        load(pickle.dumps(nested(100, empty)), "value")


NESTED = b"".join([b"(t", *(100 * [b"2\x86"])])  # the opcodes of nested(100): DUP, TUPLE2


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"\x80\x02}" + NESTED + b"K\x01s.", "a key of type tuple"),
        (b"\x80\x02}(" + NESTED + b"K\x01u.", "a key of type tuple"),
        (b"\x80\x02(" + NESTED + b"K\x01d.", "a key of type tuple"),
        (b"\x80\x04\x8f(" + NESTED + b"\x90.", "143"),
        (b"\x80\x02cnumpy\ndtype\n" + NESTED + b"\x85R.", "a tuple where a name"),
        (b"\x80\x02cnumpy\ndtype\n" + NESTED + b"\x81.", "a tuple where a name"),
        (b"\x80\x02" + NESTED + b")\x81.", "an object of a tuple"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00x" + NESTED + b"\x86R.", "a tuple where a name"),
        (b"\x80\x02" + NESTED + NESTED + b"b.", "a state to a tuple"),
        (b"\x80\x02" + NESTED + NESTED + b"Q.", "pickle not read"),
    ],
)
def test_nested_tuples_are_neither_hashed_nor_printed(stream: bytes, reason: str) -> None:
    """Inputs that would take 2 ** 100 steps each."""
    with pytest.raises(FormatError, match=reason):
        load(stream, "value")


def test_an_array_whose_values_are_a_number_is_refused() -> None:
    """``bytes(400 * 2**20)`` is 400 MiB of zeros."""
    stream = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01J\x00\x00\x00\x19\x85cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85R"
        b"\x89J\x00\x00\x00\x19tb."
    )
    with pytest.raises(FormatError, match="without an element type or values"):
        load(stream, "value")


@pytest.mark.parametrize(
    ("limits", "unit"),
    [(Budget(max_bytes=5), "bytes"), (Budget(10**6, max_elements=2000), "elements"), (Budget(1800), "bytes")],
)
def test_a_pickle_costs_no_more_than_its_budget(limits: Budget, unit: str) -> None:
    value = [np.zeros(1000, np.uint8), *(5000 * [None])] if unit == "elements" else 2 * [np.zeros(1000, np.uint8)]
    with pytest.raises(BudgetExceeded, match=f"value: .* {unit}"):
        load(pickle.dumps(value), "value", limits=limits)


def test_a_pickle_that_takes_too_long_to_read_is_refused() -> None:
    with pytest.raises(BudgetExceeded, match="not read within 0 seconds"):
        load(pickle.dumps(5000 * [None]), "value", limits=Budget(10**6, max_seconds=0))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_stream_gives_a_value_or_a_format_error(data: st.DataObject) -> None:
    stream = bytearray(pickle.dumps(VALUE, data.draw(st.integers(0, 4))))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    stream = stream[: data.draw(st.integers(1, len(stream)))]
    try:
        load(bytes(stream), "value")
    except FormatError as refusal:
        assert str(refusal).startswith("value: pickle not read (")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_give_a_value_or_a_format_error(stream: bytes) -> None:
    try:
        load(stream, "value")
    except FormatError as refusal:
        assert "\n" not in str(refusal)
