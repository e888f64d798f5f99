"""A report on disk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .contents import Contents
from .page import page, pictures
from .section import extent
from .statistics import quantiles
from .table_sections import in_short


@dataclass(frozen=True)
class Written:
    """Paths of a report, and its findings as sentences and numbers."""

    zoo: str
    version: int
    page: Path
    pictures: tuple[Path, ...]
    extent: str
    findings: tuple[str, ...]
    num_faulty: int
    test_accuracy: tuple[float | None, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "zoo": self.zoo,
            "version": self.version,
            "page": str(self.page),
            "pictures": [str(path) for path in self.pictures],
            "extent": self.extent,
            "findings": list(self.findings),
            "num_faulty": self.num_faulty,
            "test_accuracy_quantiles": list(self.test_accuracy),
        }


def write_report(contents: Contents, folder: Path) -> Written:
    """Write ``index.html`` and the PNGs into ``folder``; what was there under these names is replaced."""
    html, images = page(contents), pictures(contents)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in images.items():
        (folder / name).write_bytes(data)
    target = folder / "index.html"
    target.write_text(html, encoding="utf-8")
    found = quantiles(contents.population.final("test_acc"))
    return Written(
        zoo=contents.facts.name,
        version=contents.facts.version,
        page=target,
        pictures=tuple(folder / name for name in images),
        extent=extent(contents),
        findings=tuple(in_short(contents)),
        num_faulty=int((~contents.population.sound_N).sum()),
        test_accuracy=tuple(float(q) if np.isfinite(q) else None for q in found),
    )
