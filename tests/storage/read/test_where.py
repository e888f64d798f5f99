"""Predicates from outside select rows, or are refused in one line, whatever they contain."""

from typing import Any

import pytest

import zooforge
from tests.support.synthetic import copy_zoo, tiny_zoo
from zooforge.storage.errors import PredicateError
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import Zoo


@pytest.fixture
def zoo(local: ObjectStore) -> Zoo:
    copy_zoo(tiny_zoo(), "tiny-zoo", local)
    return zooforge.open_zoo(f"{local.url}/zoos/tiny-zoo")


def test_many_terms_side_by_side_are_evaluated(zoo: Zoo) -> None:
    terms = " or ".join(f"model == {7 * n}" for n in range(900))
    assert set(zoo.labels(where=terms)["model"].to_pylist()) == {0, 7, 14, 21}


@pytest.mark.parametrize(
    "where",
    [
        "+".join(["1"] * 900) + " == model",
        "model == " + "-" * 9000 + "1",
        "not " * 4000 + "nesterov",
        "(" * 3000 + "model == 1" + ")" * 3000,
        "model == " + "9" * 3000,
        f"model in [{'9' * 400}]",
        "test_acc > 1e999 + 'x'",
        r"activation == '\ud800'",
        "activation == '\ud800'",
        "model == 1\x00",
        "model < None",
        "model + True == seed",
        "-activation == 1",
        "nesterov * 'a' == 2",
        "model in [1, 'a']",
        "model in []",
        "model == 1j",
        "model == ...",
        "model == b'1'",
        "epoch if True else model",
        "[x for x in model]",
        "model := 1",
        "lambda: 0",
        "x" * 3000,
        "f(" + "model, " * 900 + "1) == 1",
        "",
        " ",
    ],
)
def test_a_hostile_predicate_selects_or_is_refused_in_one_line(zoo: Zoo, where: Any) -> None:
    try:
        assert zoo.labels(where=where).num_rows <= 96
    except PredicateError as error:
        text = str(error)
        assert text.startswith("where: ") and "\n" not in text and len(text) < 1000
        text.encode()
