"""Parses untrusted YAML to plain values: core schema of YAML 1.2, no key twice, bounded size and depth. Pure.

YAML 1.1, the default of PyYAML, reads ``1e-3`` as a string, ``no`` as false and the slice ``21:26`` as 1286.
"""

import re
from typing import Any

import yaml

from ..errors import InputError

MAX_CHARACTERS = 16 * 1024 * 1024
MAX_DEPTH = 64
"""libyaml composes nested nodes by recursion, which overflows the C stack at about ten thousand levels."""
MAX_NODES = 2_000_000
"""Most nodes of a document. An alias counts as all nodes that it repeats, since ten lines can stand for billions."""
MAX_DIGITS = 40

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """Resolves plain scalars by the rules of YAML 1.2, and refuses a mapping in which a key occurs twice."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _error(f"key {_short(key)} is not text", node)
            if key in seen:
                raise _error(f"{_short(key)} is named twice", node)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: Any) -> Any:
        if len(node.value) > MAX_DIGITS:
            raise _error(f"a number of {len(node.value)} digits; at most {MAX_DIGITS} are read", node)
        return super().construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)", "-+0123456789."),
    ("null", r"~|null|", "~n\0"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})\\Z"), list(_first))


def yaml_values(text: str, where: str) -> Any:
    """Plain values of one YAML document.

    Raises:
        InputError: the text is not YAML, has a key twice, a tag such as ``!!int`` or a number with too many digits, or
            is too long, too deep or repeats too much by aliases. The message is one line that begins with ``where``.
    """
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"{where}: {len(text):,} characters, at most {MAX_CHARACTERS:,} are read")
    try:
        _check_bounds(text)
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        raise InputError(f"{where}{place}: {problem}") from None
    except UnicodeError:
        raise InputError(f"{where}: not Unicode text") from None


def _check_bounds(text: str) -> None:
    """Raises YAMLError if the document is too deep, repeats too much or has a tag, before any node is built."""
    sizes: dict[str, int] = {}  # number of nodes below an anchor, including the anchor itself
    open_nodes: list[tuple[str | None, int]] = []  # anchor, number of nodes before it
    count = 0
    for event in yaml.parse(text, Loader=_Base):
        if isinstance(event, yaml.NodeEvent):
            if isinstance(event, yaml.AliasEvent):
                if any(event.anchor == anchor for anchor, _ in open_nodes):
                    raise _error(f"alias *{event.anchor} stands inside the value that it repeats", event)
                count += sizes.get(event.anchor or "", 0)
            elif (tag := getattr(event, "tag", None)) is not None:
                raise _error(f"tag {_short(tag)}; write the plain value", event)
            count += 1
            if count > MAX_NODES:
                raise _error(f"more than {MAX_NODES:,} values, aliases written out", event)
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, count))
            if len(open_nodes) > MAX_DEPTH:
                raise _error(f"nested deeper than {MAX_DEPTH} levels", event)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = count - before + 1


def _error(problem: str, place: Any) -> yaml.constructor.ConstructorError:
    """The error for ``problem``; ``place`` is the node or event that has the problem."""
    return yaml.constructor.ConstructorError(None, None, problem, place.start_mark)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
