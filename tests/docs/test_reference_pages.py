"""The generated pages of docs/reference are those of the present code."""

import pytest

from tests.support.reference_pages import FOLDER, PAGES


@pytest.mark.parametrize("name", list(PAGES))
def test_a_generated_page_is_what_the_code_says(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"


def test_pages_hold_every_verb_every_name_and_every_field() -> None:
    commands, python, fields = ((FOLDER / name).read_text() for name in PAGES)
    assert "\n### zoo store export-raw\n" in commands and "`--max-dollars FLOAT RANGE`" in commands
    assert "\n### `Zoo.weights`\n" in python and "weight_threshold" in python and "`EpochNotKept`" in python
    assert "| `learning_rate` | a list of numbers" in fields and "## SparsifySpec" in fields
