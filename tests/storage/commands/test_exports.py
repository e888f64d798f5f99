"""One row per export format: verb, help and document follow from it."""

import inspect
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.support.synthetic import RUN, description, train
from zooforge.storage.cli import command
from zooforge.storage.commands.exports import EXPORT_FORMATS, ExportFormat, documented
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.zoo_jobs.cli import main

ROOT = Path(__file__).parents[3]


def test_the_document_has_the_table_of_the_registry() -> None:
    page = (ROOT / "docs/interchange.md").read_text()
    assert documented(page) == page


@pytest.mark.parametrize("row", EXPORT_FORMATS, ids=lambda row: row.verb)
def test_a_row_passes_each_parameter_that_its_function_takes(row: ExportFormat) -> None:
    module, _, name = row.function.partition(":")
    function = getattr(import_module(f"zooforge.storage.interchange.{module}"), name)
    keywords = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    options = [str(option.name) for option in row.options]
    assert set(keywords) - {"files"} == {*row.selection, *options, "progress"}  # files: only `zoo publish` passes them
    given = row.command().make_context(row.verb, ["zoo", "path"]).params
    assert {name: given[name] for name in options} == {name: keywords[name] for name in options}
    assert row.readers


@pytest.mark.parametrize("row", EXPORT_FORMATS, ids=lambda row: row.verb)
def test_a_row_is_a_verb_with_its_help_and_options(row: ExportFormat) -> None:
    assert isinstance(command, click.Group)
    shown = CliRunner().invoke(command, [row.verb, "--help"]).output
    assert row.help.split()[1] in shown
    for option in (*row.selection, *(flag.lstrip("-") for each in row.options for flag in each.opts[:1])):
        assert f"--{option.replace('_', '-')}" in shown


def test_a_zoo_is_named_by_its_address_or_by_its_name_in_a_store(
    memory: ObjectStore, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZOO_STORE", raising=False)
    train(memory, range(3), 1)
    vectorize(memory, description(num_models=3, num_epochs=1), RUN)
    assert main(["store", "export-google", f"{memory.url}/zoos/tiny-zoo", str(tmp_path / "a")]) == 0
    assert main(["store", "export-google", "tiny-zoo", str(tmp_path / "b"), "--store", memory.url]) == 0
    monkeypatch.setenv("ZOO_STORE", memory.url)
    assert main(["store", "export-google", "tiny-zoo", str(tmp_path / "c")]) == 0
    monkeypatch.delenv("ZOO_STORE")
    capsys.readouterr()
    assert main(["store", "export-google", "tiny-zoo", str(tmp_path / "d")]) == 2
    assert "write STORE/zoos/tiny-zoo" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
