"""Hook of `make docs-site`: the notebooks, executed in build/notebooks, become pages of the site with their outputs."""

import re
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
PICTURE = re.compile(r"^# Picture: (.+(?:\n# .+)*)", re.MULTILINE)
"""The comment that says what a cell's picture shows; it becomes the text alternative."""


def on_files(files: Any, config: Any) -> Any:
    for source in sorted((ROOT / "notebooks").glob("*.ipynb")):
        executed = ROOT / "build" / "notebooks" / source.name
        if not executed.is_file():
            raise PluginError(f"{executed} is missing; `make docs-site` executes the notebooks first")
        markdown, pictures = page(nbformat.read(executed, as_version=4), source.stem)
        files.append(File.generated(config, f"notebooks/{source.stem}.md", content=markdown))
        for name, data in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=data))
    return files


def page(notebook: Any, stem: str) -> tuple[str, dict[str, bytes]]:
    """Markdown of an executed notebook, and its pictures by the name under which the Markdown shows them."""
    texts = alternatives(notebook)
    exporter = MarkdownExporter()
    body, resources = exporter.from_notebook_node(
        notebook, resources={"unique_key": stem, "output_files_dir": "pictures"}
    )
    shown = iter(texts)
    body = re.sub(r"!\[png\]\(([^)]+)\)", lambda match: f"![{next(shown)}]({match[1]})", body)
    body = re.sub(r"\]\((\d\d-[a-z-]+)\.ipynb\)", r"](\1.md)", body)
    body = re.sub(r"<style scoped>.*?</style>\n", "", body, flags=re.DOTALL)  # tables look like those of other pages
    body = body.replace('<table border="1" class="dataframe">', "<table>")
    return body, dict(resources["outputs"])


def alternatives(notebook: Any) -> list[str]:
    """The text alternative of each picture, in their order."""
    texts = []
    for cell in notebook["cells"]:
        pictures = sum("image/png" in output.get("data", {}) for output in cell.get("outputs", ()))
        if pictures:
            said = PICTURE.search(cell["source"])
            if said is None:
                raise PluginError(f"a cell draws a picture and has no line `# Picture: ...`: {cell['source'][:60]!r}")
            texts += [said[1].replace("\n# ", " ")] * pictures
    return texts
