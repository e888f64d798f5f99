"""The notebooks have no outputs in git and a text for every picture, and each runs from its first cell to its last."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.notebooks import execute, notebooks, stripped
from tests.support.paths import ROOT
from tests.support.site_hooks import site_hook

NOTEBOOKS = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    return site_hook("mkdocs_notebooks", monkeypatch)


@NOTEBOOKS
def test_a_notebook_in_git_has_no_outputs(path: Path) -> None:
    assert path.read_text() == stripped(path.read_text()), "python -m tests.support.notebooks --strip"


def test_what_is_stripped_stays_so_and_keeps_the_sources() -> None:
    cell = {"cell_type": "code", "source": "a = 1\nb", "outputs": [1], "execution_count": 3, "metadata": {"x": 1}}
    text = stripped(json.dumps({"cells": [cell], "metadata": {"language_info": {"version": "3.9"}}}))
    assert stripped(text) == text
    assert json.loads(text)["cells"] == [
        {
            "cell_type": "code", "execution_count": None, "id": "cell-00", "metadata": {}, "outputs": [],
            "source": ["a = 1\n", "b"],
        }
    ]  # fmt: skip


@NOTEBOOKS
def test_every_picture_has_a_text(path: Path) -> None:
    for source in cells(path, "code"):
        if "plt.show()" in source or "Image(" in source:
            assert re.match(r"# Picture: (.{40,}|.+\n# )", source), source[:80]


@NOTEBOOKS
def test_the_cells_are_python_or_shell(path: Path) -> None:
    for source in cells(path, "code"):
        if not source.startswith("%%"):
            ast.parse(source)


@NOTEBOOKS
def test_links_lead_to_notebooks(path: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", "".join(cells(path, "markdown")))
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


def test_every_notebook_is_a_page_of_the_site() -> None:
    navigation = yaml.safe_dump(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert re.findall(r"notebooks/(\S+)\.md", navigation) == [path.stem for path in notebooks()]


def test_the_text_of_a_picture_may_have_several_lines(hook: Any) -> None:
    drawn = {"data": {"image/png": ""}}
    cell = {"source": "# Picture: a line that\n# rises.\nplt.show()", "outputs": [{"text": "x"}, drawn, drawn]}
    assert hook.alternatives({"cells": [{"source": "#"}, cell]}) == ["a line that rises."] * 2
    with pytest.raises(ValueError, match="no line `# Picture"):
        hook.alternatives({"cells": [{"source": "plt.show()", "outputs": [drawn]}]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which all notebooks run; later ones find the zoos of earlier ones."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.mark.slow
@pytest.mark.slower
@NOTEBOOKS
def test_a_notebook_runs_from_its_first_cell_to_its_last(path: Path, folder: Path) -> None:
    pytest.importorskip("nbclient", reason="nbclient is not installed")
    executed = execute(path, folder)
    for cell in executed["cells"]:
        if cell["cell_type"] == "code":
            assert cell["execution_count"] is not None
            assert not any(str(ROOT) in json.dumps(output) for output in cell["outputs"])
