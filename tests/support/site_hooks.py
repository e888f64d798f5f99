"""Imports the hooks of `make docs-site`. MkDocs and nbconvert are not needed: they have an environment of their own."""

import importlib
import sys
from typing import Any
from unittest.mock import MagicMock

import pytest

from .paths import ROOT

IMPORTED = ("mkdocs", "mkdocs.exceptions", "mkdocs.structure", "mkdocs.structure.files", "nbconvert", "nbformat")


def site_hook(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module docs/``name``.py. The PluginError that it raises is ValueError."""
    for module in IMPORTED:
        monkeypatch.setitem(sys.modules, module, MagicMock(PluginError=ValueError))
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module(name)
