"""The readers' wheel: `zooforge.py` becomes the package that `storage` travels in."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ReadersWheel(BuildHookInterface[Any]):
    """`sources` of pyproject.toml moves folders only."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":  # that one points at the clone
            build_data["force_include"]["zooforge.py"] = "zooforge/__init__.py"
