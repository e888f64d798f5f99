"""Turns the problems that pydantic reports into one line for a person. Pure."""

import re
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ..errors import nearest

_ACCEPTED = re.compile(r"'([^']*)'|\b(\d+)\b")


class MisplacedError(ValueError):
    """A problem in a field, and its place in the field, such as ``layers[3].conv.kernel``."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}" if place else problem)
        self.place = place


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem: field, value, accepted values, nearest name. All missing fields count as one problem.

    A misspelt field comes first, then the missing fields, each with an example, then other problems in their order.
    """
    problems = error.errors(include_url=False)
    missing = [problem["loc"] for problem in problems if problem["type"] == "missing"]
    problems = [problem for problem in problems if problem["type"] != "missing"]
    misspelt = next((problem for problem in problems if problem["type"] == "extra_forbidden"), None)
    if missing and misspelt is None:
        return _missing(missing, model) + _more(len(problems))
    first = misspelt or problems[0]
    loc = first["loc"]
    field = _path(loc)
    match first["type"]:
        case "extra_forbidden":
            text = _unknown_field(str(loc[-1]), _path(loc[:-1]), _accepted_fields(model, loc[:-1]))
        case "literal_error":
            accepted = [quoted or number for quoted, number in _ACCEPTED.findall(str(first["ctx"]["expected"]))]
            close = nearest(str(first["input"]), accepted)
            offer = f"did you mean {close!r}? " if close else ""
            text = f"{field} is {first['input']!r}; {offer}accepted: {', '.join(accepted)}"
        case "value_error":
            problem = first["ctx"]["error"]
            inside = isinstance(problem, MisplacedError) and problem.place
            text = f"{field}{'.' if inside else ': '}{problem}" if field else str(problem)
        case "too_short":
            least = first["ctx"]["min_length"]
            text = f"{field} has {first['ctx']['actual_length']} values, expected at least {least}"
        case _:
            text = f"{field} is {_short(first['input'])}; {first['msg'][0].lower()}{first['msg'][1:]}"
    return text + _more(len(problems) + len(missing) - 1)


def _more(count: int) -> str:
    return f" (and {count} more)" if count else ""


def _missing(fields: list[tuple[int | str, ...]], model: type[BaseModel]) -> str:
    """``axes and seeds are required, e.g. axes: {...}; seeds: "1:11"``."""
    names = [_path(loc) for loc in fields]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    examples = [(loc, _example(model, loc)) for loc in fields]
    shown = "; ".join(f"{_path(loc)}: {example}" for loc, example in examples if example is not None)
    return f"{listed} {'is' if len(names) == 1 else 'are'} required{f', e.g. {shown}' if shown else ''}"


def _example(model: type[BaseModel], loc: tuple[int | str, ...]) -> str | None:
    """The first example of the field, as YAML; None if it has no example."""
    for part in loc[:-1]:
        if part in model.model_fields:
            model = _model_in(model.model_fields[str(part)].annotation) or model
    field = model.model_fields.get(str(loc[-1]))
    return str(field.examples[0]) if field is not None and field.examples else None


def _unknown_field(name: str, block: str, accepted: list[str]) -> str:
    close = nearest(name, accepted)
    offer = f"did you mean {close!r}? " if close else ""
    inside = f" in {block}" if block else ""
    return f"unknown field {name!r}{inside}; {offer}accepted: {', '.join(accepted)}"


def _path(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _accepted_fields(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    for part in loc:
        if part in model.model_fields:  # otherwise a key of a mapping, and the field before it says what the values are
            model = _model_in(model.model_fields[str(part)].annotation) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for arg in get_args(annotation) if (model := _model_in(arg))), None)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
