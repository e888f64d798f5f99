"""The wheel: `zooforge.py` becomes the package that the rooms travel in."""

import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Wheel(BuildHookInterface[Any]):
    """`sources` of pyproject.toml moves folders only."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":  # that one points at the clone
            build_data["force_include"]["zooforge.py"] = "zooforge/__init__.py"
            # For `python -m zooforge`, which in a clone runs zooforge.py itself; and a marker for type checkers.
            start = "import sys\n\nfrom zooforge import main\n\nsys.exit(main())\n"
            folder = Path(tempfile.mkdtemp())
            for name, text in {"__main__.py": start, "py.typed": ""}.items():
                (folder / name).write_text(text)
                build_data["force_include"][str(folder / name)] = f"zooforge/{name}"
