"""The readers' wheel: `zooforge.py` becomes the package that `storage` travels in."""

import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ReadersWheel(BuildHookInterface[Any]):
    """`sources` of pyproject.toml moves folders only."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":  # that one points at the clone
            build_data["force_include"]["zooforge.py"] = "zooforge/__init__.py"
            # For `python -m zooforge`, which in a clone runs zooforge.py itself.
            start = Path(tempfile.mkdtemp()) / "__main__.py"
            start.write_text("import sys\n\nfrom zooforge import main\n\nsys.exit(main())\n")
            build_data["force_include"][str(start)] = "zooforge/__main__.py"
