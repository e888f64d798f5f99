"""The pages are correct: their commands and code run one after the other and print the text that the pages show."""

import doctest
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support.page_blocks import NEEDS, Block, blocks, documents
from tests.support.paths import ROOT
from zooforge.zoo_jobs.cli import main, zoo

ELSEWHERE = {
    "README.md": "tests/docs/test_python_page.py",
    "docs/python.md": "tests/docs/test_python_page.py",
    "docs/format.md": "tests/storage/formats/test_format.py",
    "docs/benchmarks.md": "tests/zoo_jobs/benchmark/test_benchmark_command.py",
    "CONTRIBUTING.md": "tests/docs/test_documents.py",
}
"""Pages with tests of their own; of CONTRIBUTING.md only the verbs and options are tested."""
SLOW = [
    "docs/how-to/families.md",
    "docs/tutorials/extend.md",
    "docs/tutorials/twins.md",
    "storage/example/README.md",
]
PAGES = [
    pytest.param(str(page), marks=pytest.mark.slow if str(page) in SLOW else ())
    for page in documents()
    if str(page) not in ELSEWHERE and any(block.runs for block in blocks(page))
]
ALONE: dict[str, Any] = {"ray": "none", "no_metrics": True, "quiet": True, "slots": 1}
CHECKER, LOOSE = doctest.OutputChecker(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
RESULT = re.compile(r"^(.+?)  # -> (.*)$")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def desk(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what pages use of a clone. Commands run here, and train in this process alone."""
    shutil.copytree(ROOT / "storage" / "example", tmp_path / "storage" / "example")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_CACHE", str(cache))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("ZOO_STORE", raising=False)
    monkeypatch.setenv("MPLBACKEND", "agg")
    defaults = {"train": ALONE, "run": ALONE, "sparsify": ALONE, "tune": {"no_metrics": True}}
    monkeypatch.setitem(zoo.context_settings, "default_map", defaults)
    return tmp_path


def said(page: str, before: str, given: str, expected: str) -> None:
    if expected and not CHECKER.check_output(expected, given, LOOSE):
        raise AssertionError(f"{page}: `{before}` prints\n{given}\nthe page says\n{expected}")


def commands(code: str) -> Iterator[tuple[str, int]]:
    """Each command of a block, and the exit status that a comment after it states."""
    for line in code.replace("\\\n", " ").splitlines():
        stated = re.search(r"# exit status (\d+)", line)
        if command := re.sub(r"(^|  +)#.*$", "", line).strip():
            yield command, int(stated[1]) if stated else 0


def run_command(command: str, status: int, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command and return its output on both streams. A `zoo` command runs in this process to save time."""
    if command.startswith("make "):
        return ""  # tests/docs/test_documents.py looks for the target
    if command.startswith("zoo ") and not re.search(r"[|><$;&]", re.sub(r'"[^"]*"', "", command)):
        capsys.readouterr()
        ended = main(shlex.split(command)[1:])
        captured = capsys.readouterr()
        assert ended == status, (command, ended, captured.err)
        return captured.out + captured.err
    process = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, timeout=120)
    assert process.returncode == status, (command, process.stderr)
    return process.stdout + process.stderr


def run_python(page: str, code: str, names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    """Runs a block; a line that ends in ``# -> text`` has to give what it says."""
    capsys.readouterr()
    lines = code.splitlines()
    for number, line in enumerate(lines):
        if stated := RESULT.match(line):
            assert not line.startswith(" "), line
            exec("\n".join(lines[:number]), names)
            said(page, stated[1], repr(eval(stated[1], names)) + "\n", stated[2] + "\n")
            lines[: number + 1] = [""] * (number + 1)
    exec("\n".join(lines), names)
    return capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_followed_literally(page: str, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    before, given = "", ""
    for block in blocks(Path(page)):
        if block.is_file:
            (desk / block.title).parent.mkdir(parents=True, exist_ok=True)
            (desk / block.title).write_text(block.code)
        elif block.language == "text" and before:
            said(page, before, given, block.code)
        elif block.runs and block.language == "sh":
            for before, status in commands(block.code):
                given = run_command(before, status, capsys)
        elif block.runs:
            before = block.code.rstrip().splitlines()[-1]
            given = run_python(page, block.code, names, capsys)


@pytest.mark.parametrize("page", [str(page) for page in documents()])
def test_every_block_is_run_or_says_what_it_needs(page: str) -> None:
    assert (ROOT / ELSEWHERE.get(page, page)).exists()
    for block in blocks(Path(page)):
        what = f"{page}: {block.language} {block.title!r}\n{block.code[:200]}"
        assert block.language in ("sh", "python", "yaml", "json", "text"), what
        if block.language in ("sh", "python"):
            assert not block.title or block.is_file or block.title in NEEDS, what


def charts() -> Iterator[tuple[str, Block]]:
    for page in documents():
        yield from ((str(page), block) for block in blocks(page) if block.title == "values of the chart")


@pytest.mark.parametrize("page, block", list(charts()))
def test_the_chart_takes_the_values_that_pages_show(page: str, block: Block) -> None:
    schema = json.loads((ROOT / "helm/zooforge/values.schema.json").read_text())
    jsonschema.Draft7Validator(schema).validate(yaml.safe_load(block.code))
