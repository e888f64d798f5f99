"""docs/python.md is correct: its blocks run one after the other, and each result is the one that it states."""

import re
from pathlib import Path
from typing import Any

import pytest

import zooforge
from tests.support.module_zoo import module_zoo
from tests.support.paths import ROOT
from tests.support.synthetic import copy_zoo
from zooforge.storage.stores.local import LocalStore

PAGE = (ROOT / "docs/python.md").read_text()
RESULT = re.compile(r"^(.+?)  # -> (.*)$")


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_every_line_of_the_page_runs_and_gives_the_stated_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    copy_zoo(module_zoo(24), "tiny-zoo", LocalStore(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    wrong = []
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        for line in block.splitlines():
            stated = RESULT.match(line)
            if stated is None:
                exec(line, names)
            elif (given := repr(eval(stated[1], names))) != stated[2]:
                wrong.append(f"{stated[1]}: {given}, the page says {stated[2]}")
    assert not wrong, "\n".join(wrong)


def test_the_example_of_the_readme_runs_without_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert len(block.strip().splitlines()) <= 10 and list(tmp_path.iterdir()) == []
    assert (
        len(names["states"]) == len(names["accuracy"]) > 20 and len(names["stack"]) == 8 and len(names["twins"]) == 16
    )
    assert len(names["dataset"]) == len(names["stream"]) == 5 * len(zooforge.example().weights(split="train", epochs=0))
