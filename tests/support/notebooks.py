"""Executes the notebooks of this clone, and removes their outputs.

``python -m tests.support.notebooks build/notebooks [NAME...]`` executes them in that folder, in their order; a zoo that
one of them grew is there for the next. ``python -m tests.support.notebooks --strip`` removes the outputs.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from .paths import ROOT

FOLDER = ROOT / "notebooks"
TIMEOUT_SECONDS = 1800  # of a cell, and of the start; ends what hangs


def notebooks() -> list[Path]:
    return sorted(FOLDER.glob("*.ipynb"))


def stripped(text: str) -> str:
    """The text of a notebook without outputs, counts and the traces that editors leave; ids are those of places."""
    notebook = json.loads(text)
    cells = []
    for number, cell in enumerate(notebook["cells"]):
        kept: dict[str, Any] = {"cell_type": cell["cell_type"], "id": f"cell-{number:02}", "metadata": {}}
        if cell["cell_type"] == "code":
            kept |= {"execution_count": None, "outputs": []}
        cells.append(kept | {"source": "".join(cell["source"]).splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def execute(path: Path, folder: Path) -> dict[str, Any]:
    """Execute a notebook in ``folder``, write it there with its outputs, and return it.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import nbclient
    import nbformat

    folder.mkdir(parents=True, exist_ok=True)
    # The kernel finds this clone, and the `zoo` of the environment that runs this.
    paths = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(ROOT)}
    found = {name: os.pathsep.join(filter(None, [first, os.environ.get(name)])) for name, first in paths.items()}
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        coalesce_streams=True,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        startup_timeout=TIMEOUT_SECONDS,
        timeout=TIMEOUT_SECONDS,
    )
    client.execute(env=os.environ | found)
    nbformat.write(notebook, folder / path.name)
    return dict(notebook)


if __name__ == "__main__":
    first, *names = sys.argv[1:]
    for source in notebooks():
        if first == "--strip":
            source.write_text(stripped(source.read_text()))
        elif not names or source.stem in names:
            print(source.name, flush=True)
            execute(source, Path(first))
