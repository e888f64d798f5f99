"""The weights that the models of a zoo take from their parents. Pure."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator

from zooforge.storage.formats.layout import Layout

from ..models.registry import Network

Head = Literal["keep", "new"]
_RANGE = re.compile(r"(\d{1,9}):(\d{1,9})")


def _checked(text: str) -> str:
    match = _RANGE.fullmatch(text)
    if match is None or int(match[1]) >= int(match[2]):
        raise ValueError(f'it is a half-open range such as "0:8", found {text!r}')
    return text


ModelRange = Annotated[str, AfterValidator(_checked)]
"""A half-open range of model indices as text, such as ``0:8``."""


def kept(layout: Layout, head: Head) -> Layout:
    """The tensors of ``layout`` that a child takes from its parent: all, or all except those of the last layer."""
    last = layout.entries[-1].layer
    return Layout.of([(e.name, e.shape) for e in layout if head == "keep" or e.layer != last])


def difference(parent: Network, child: Network, head: Head) -> str | None:
    """The first difference because of which ``child`` cannot begin with the weights of ``parent``; None if it can."""
    for theirs, ours in (
        (kept(parent.layout, head), kept(child.layout, head)), (parent.buffer_layout, child.buffer_layout),
    ):  # fmt: skip
        for name in dict.fromkeys([*(e.name for e in ours), *(e.name for e in theirs)]):
            there, here = (list(layout[name].shape) if name in layout else "nothing" for layout in (theirs, ours))
            if there != here:
                return f"{name} is {there} there and {here} here"
        if ours != theirs:
            return "their tensors have another order"
    if child.counter_names != parent.counter_names:
        return f"their counters are {list(parent.counter_names)} there and {list(child.counter_names)} here"
    return None
