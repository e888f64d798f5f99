"""Tables of the names that a spec accepts, for docs/zoo-spec.md. Running this module with ``python -m`` writes them."""

import sys
from collections.abc import Iterable
from pathlib import Path

from ..data.registry import DATASETS
from ..models.layers import ACTIVATIONS
from ..models.optimizers import OPTIMIZERS
from ..models.registry import ARCHITECTURES, INITIALIZERS

BEGIN, END = "<!-- written by `make docs` -->\n", "\n<!-- end of names -->"


def tables() -> str:
    """Markdown tables with the rows of every registry. A test compares them with the page."""
    architectures = [
        (
            f"`{name}`",
            row.description,
            " or ".join(f"{size} x {size}" for size in row.image_sizes),
            "one per class" if row.least_outputs == 1 else f"one per class, at least {row.least_outputs}",
        )
        for name, row in ARCHITECTURES.items()
    ]
    datasets = [
        (
            f"`{name}`",
            entry.description,
            f"{entry.image_size} x {entry.image_size} x {entry.channels}",
            str(entry.num_classes),
            f"{entry.num_images:,}" + ("" if entry.num_test is None else f" + {entry.num_test:,}"),
        )
        for name, entry in DATASETS.items()
    ]
    axes = [
        (f"`{axis}`", ", ".join(f"`{name}`" for name in names))
        for axis, names in (("activation", ACTIVATIONS), ("initializer", INITIALIZERS), ("optimizer", OPTIMIZERS))
    ]
    return "\n\n".join(
        (
            _table(("`architecture`", "network", "images", "outputs"), architectures),
            _table(("`dataset`", "images", "shape", "classes", "train + test"), datasets),
            _table(("axis", "names"), axes),
        )
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("--" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" if line[0] != "--" else f"|{'|'.join(line)}|" for line in lines)


if __name__ == "__main__":
    page = Path(sys.argv[1])
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    page.write_text(f"{before}{BEGIN}{tables()}{END}{rest.partition(END)[2]}", encoding="utf-8")
