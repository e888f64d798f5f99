"""The card of a zoo: its header is YAML with the values of the description, whatever characters these contain."""

from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.support.synthetic import RUN, description, train
from zooforge.storage.publish.cards import card, yaml_text, yaml_word
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.memory import MemoryStore

SLY = [
    "a]\nlicense: mit",
    'x"\nlicense: mit\n"',
    "none]\n---\n# Free",
    "\u2028license: x",
    *("null", "1.0", "a: b", "# c", "- a", "\\n", "a\tb", "@", "yes", "", "a,b", "é\U0001f600"),
]


def header_of(text: str) -> Any:
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("\n---\n")[0])


@pytest.mark.parametrize("name", SLY)
def test_no_name_of_a_zoo_can_change_other_fields_of_the_header(name: str) -> None:
    store = MemoryStore()
    train(store, range(2), 1)
    named = replace(description(), title=name or "-", dataset=name)
    text = card(named, vectorize(store, named, RUN).manifest)
    header = header_of(text)
    assert header["license"] == "cc-by-4.0" and header["pretty_name"] == (name or "-")
    assert header["tags"] == ["model-zoo", "weight-space-learning", "tiny", name]
    assert set(header) == {"license", "pretty_name", "tags", "configs"}


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_text_reads_back_from_yaml(text: str) -> None:
    assert yaml.safe_load(yaml_text(text)) == text == yaml.safe_load(yaml_word(text))


def test_a_simple_word_stays_plain() -> None:
    assert yaml_word("fashion-mnist") == "fashion-mnist"
