"""The generated pages of docs/reference: commands from click, the Python interface from docstrings, fields of a spec.

``python -m tests.support.reference_pages`` writes them; tests/docs/test_reference_pages.py compares them.
"""

import dataclasses
import inspect
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import click

import zooforge
from zooforge.storage import errors
from zooforge.storage.formats.layout import Layout
from zooforge.storage.read.states import State, States
from zooforge.storage.views.stack import StackedModules
from zooforge.storage.views.standardize import Standardizer
from zooforge.storage.views.torch_data import StateDataset, StateStream
from zooforge.storage.zoo import Zoo
from zooforge.zoo_jobs.cli import zoo
from zooforge.zoo_jobs.spec.epochs import EpochSet
from zooforge.zoo_jobs.spec.schema import json_schema

from .paths import ROOT

FOLDER = ROOT / "docs" / "reference"
HEAD = "<!-- Written by `make docs` from the code; do not edit. -->\n\n"
CLASSES = (Zoo, States, State, StateDataset, StateStream, StackedModules, Standardizer, Layout)
PROTOCOL = ("__len__", "__iter__", "__getitem__", "__call__")
SECTION = re.compile(r"^(Args|Returns|Raises|Attributes|Source|Yields):(.*)$")


def commands_page() -> str:
    """Every verb of `zoo`, with its arguments and options."""
    lines = [
        "# Commands",
        "Every verb and option of `zoo`, as `--help` prints them. Exit status: 0 if all is done, 1 if something "
        "failed, 2 for bad input, 75 if a run was stopped before its end (run the command again). Results go to "
        "stdout, everything else to stderr; with `--json` stdout is one JSON value.",
    ]
    for context in _commands(click.Context(zoo, info_name="zoo", terminal_width=200)):
        command = context.command
        lines.append(f"{'##' if context.command_path.count(' ') < 2 else '###'} {context.command_path}")
        lines.append(f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```")
        lines += [_one_line(part) for part in inspect.cleandoc(command.help or "").split("\n\n") if part]
        if isinstance(command, click.Group):
            verbs = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
            rows = [(f"`{name}`", _one_line(verb.get_short_help_str(200))) for name, verb in verbs if verb is not None]
            lines.append(_table(("verb", "what it does"), rows))
        records = [parameter.get_help_record(context) for parameter in command.params]
        if options := [(f"`{record[0]}`", _one_line(record[1])) for record in records if record is not None]:
            lines.append(_table(("option", "meaning"), options))
    return HEAD + "\n\n".join(lines) + "\n"


def _commands(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            if command is not None and not command.hidden:
                yield from _commands(click.Context(command, parent=context, info_name=name))


def python_page() -> str:
    """The public functions and classes, with their docstrings."""
    lines = [
        "# Python interface",
        "Everything public of the package `zooforge`, from its docstrings. [Read a zoo](../tutorials/read.md) "
        "introduces it; [python.md](../python.md) shows every call with its result.",
        "## zooforge",
    ]
    for name in zooforge.__all__:
        function = getattr(zooforge, name)
        if callable(function):
            lines += [f"### `zooforge.{name}`", *_described(f"zooforge.{name}", function)]
    for owner in CLASSES:
        lines += [f"## {owner.__name__}", *_docstring(owner)]
        if dataclasses.is_dataclass(owner):
            rows = [(f"`{field.name}`", f"`{_annotation(field.type)}`") for field in dataclasses.fields(owner)]
            lines.append(_table(("field", "type"), rows))
        for name, member in _members(owner):
            lines += [f"### `{owner.__name__}.{name}`", *_described(name, member)]
    lines += [
        "## Errors",
        "Every error of the package is a `StorageError`: one line that says what is wrong and what to do. They lie in "
        "`zooforge.storage.errors`.",
    ]
    rows = [
        (f"`{name}`", f"`{error.__base__.__name__}`", _one_line(inspect.getdoc(error) or "").split(" Attributes:")[0])
        for name, error in vars(errors).items()
        if inspect.isclass(error) and issubclass(error, errors.StorageError)
    ]
    return HEAD + "\n\n".join([*lines, _table(("error", "is a", "meaning"), rows)]) + "\n"


def _members(owner: type) -> Iterator[tuple[str, Any]]:
    """Public members with a docstring, of the class and of its own bases, most derived first."""
    seen: set[str] = set()
    for base in owner.__mro__:
        if not base.__module__.startswith("zooforge."):
            continue
        for name, member in vars(base).items():
            function = getattr(member, "__func__", getattr(member, "func", getattr(member, "fget", member)))
            public = name in PROTOCOL or not name.startswith("_")
            if public and name not in seen and callable(function) and inspect.getdoc(function):
                seen.add(name)
                yield name, member


def _described(name: str, member: Any) -> list[str]:
    function = getattr(member, "__func__", member)
    if not inspect.isfunction(function):
        getter: Callable[..., Any] = getattr(member, "func", getattr(member, "fget", None))
        return [f"Property, `{_annotation(getter.__annotations__.get('return', ''))}`.", *_docstring(getter)]
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=parameter.empty)
        for parameter in signature.parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    result = _annotation(signature.return_annotation)
    text = f"{name}{signature.replace(parameters=parameters, return_annotation=signature.empty)} -> {result}"
    if len(text) > 76:
        shown = [str(parameter) for parameter in parameters]
        first = next((n for n, parameter in enumerate(parameters) if parameter.kind is parameter.KEYWORD_ONLY), None)
        if first is not None:
            shown.insert(first, "*")
        text = f"{name}(\n    " + ",\n    ".join(shown) + f",\n) -> {result}"
    return [f"```text\n{text}\n```", *_docstring(function)]


def _annotation(value: Any) -> str:
    return re.sub(r"""["']""", "", value if isinstance(value, str) else inspect.formatannotation(value))


def _docstring(thing: Any) -> list[str]:
    """Markdown paragraphs of a docstring; its sections become lists."""
    blocks: list[str] = []
    text = inspect.getdoc(thing) or ""
    for paragraph in text.split("\n\n"):
        first, *rest = paragraph.splitlines()
        section = SECTION.match(first)
        if section is None:
            blocks.append(_one_line(paragraph))
            continue
        items: list[str] = []
        for line in [section[2].strip(), *(line.removeprefix("    ") for line in rest)]:
            if line.startswith(" ") and items:
                items[-1] += f" {line.strip()}"
            elif line:
                items.append(line)
        if section[1] in ("Args", "Raises", "Attributes"):
            named = (item.partition(": ") for item in items)
            listed = [f"- `{name}`: {_one_line(said)}" if said else f"- {_one_line(name)}" for name, _, said in named]
            blocks.append(f"**{section[1]}**\n\n" + "\n".join(listed))
        else:
            blocks.append(f"**{section[1]}**: {_one_line(' '.join(items))}")
    return blocks


def spec_page() -> str:
    """The fields of a spec, from its JSON Schema."""
    schema = json_schema()
    lines = [
        "# Fields of a spec",
        "Every field that a spec may have, from [its JSON Schema](../zoo-spec.schema.json). "
        "[zoo-spec.md](../zoo-spec.md) says what the fields mean together. Either `axes` or `draws` is required.",
        "## The spec",
        _fields(schema),
    ]
    for name, definition in dict(_objects(schema, schema["$defs"])).items():
        lines += [f"## {name}", _prose(definition.get("description", "")), _fields(definition)]
    return HEAD + "\n\n".join(line for line in lines if line) + "\n"


def _objects(schema: Any, definitions: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The objects with a title inside a schema, in the order in which they are named."""
    if isinstance(schema, list):
        for item in schema:
            yield from _objects(item, definitions)
    elif isinstance(schema, dict):
        if "$ref" in schema:
            schema = definitions[schema["$ref"].rpartition("/")[2]]
        if schema.get("type") == "object" and schema.get("title") and "num_epochs" not in schema.get("required", ()):
            yield schema["title"], schema
        for key, value in schema.items():
            if key != "$defs":
                yield from _objects(value, definitions)


def _fields(schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        (
            f"`{name}`",
            " or ".join(dict.fromkeys(_kinds(field))),
            "required" if name in required else f"`{_value(field['default'])}`" if "default" in field else "",
            _prose(field.get("description", "")),
        )
        for name, field in schema.get("properties", {}).items()
    ]
    return _table(("field", "value", "default", "meaning"), rows) if rows else ""


def _kinds(field: dict[str, Any]) -> Iterator[str]:
    """The kinds of value that a field takes, in words; an object is the link to its section."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        yield f"[{name}](#{name.lower()})"
    elif "enum" in field or "const" in field:
        yield ", ".join(f"`{_value(value)}`" for value in field.get("enum", [field.get("const")]))
    elif "anyOf" in field:
        for choice in field["anyOf"]:
            yield from _kinds(choice)
    elif field.get("type") == "object":
        title = field.get("title")
        yield f"[{title}](#{title.lower()})" if title else "a mapping"
    elif field.get("type") == "array":
        kinds = list(dict.fromkeys(_kinds(field["items"]))) if isinstance(field.get("items"), dict) else []
        words = re.sub(r"\b(integer|number|text)\b", r"\1s", " or ".join(kinds))
        yield f"a list of {words}" if kinds else "a list"
    else:
        kind = field.get("type", "a value")
        names = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false"}
        bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
        told = [f"{sign} {field[key]:,}" for key, sign in bounds.items() if key in field]
        words = " or ".join(names.get(each, each) for each in ([kind] if isinstance(kind, str) else kind))
        yield f"{words} {', '.join(told)}".strip()


def _value(value: Any) -> str:
    """A value as a spec has it. A set of epochs is in the schema as its spans."""
    if isinstance(value, dict) and list(value) == ["spans"]:
        return "all" if value["spans"] is None else str(EpochSet(**value).to_json())
    return value if isinstance(value, str) else json.dumps(value)


def _prose(text: str) -> str:
    return " ".join(_one_line(part) for part in text.split("\n\n"))


def _one_line(text: str) -> str:
    return re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split()))


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, *rows]
    cells = [" | ".join(re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in line) for line in lines]
    return "\n".join(f"| {line} |" for line in [cells[0], " | ".join("--" for _ in head), *cells[1:]])


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands_page,
    "python-interface.md": python_page,
    "spec-fields.md": spec_page,
}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
