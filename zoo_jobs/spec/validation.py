"""One line for a person from what pydantic found. Pure."""

import re
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ..errors import nearest

_QUOTED = re.compile(r"'([^']*)'")


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem, a misspelt field before others: field, value found, values accepted, nearest name."""
    problems = error.errors(include_url=False)
    first = next((problem for problem in problems if problem["type"] == "extra_forbidden"), problems[0])
    loc = first["loc"]
    field = _path(loc)
    match first["type"]:
        case "extra_forbidden":
            text = _unknown_field(str(loc[-1]), _path(loc[:-1]), _accepted_fields(model, loc[:-1]))
        case "missing":
            text = f"{field} is required"
        case "literal_error":
            accepted = _QUOTED.findall(str(first["ctx"]["expected"]))
            close = nearest(str(first["input"]), accepted)
            offer = f"did you mean {close!r}? " if close else ""
            text = f"{field} is {first['input']!r}; {offer}accepted: {', '.join(accepted)}"
        case "value_error":
            message = str(first["ctx"]["error"])
            text = f"{field}: {message}" if field else message
        case _:
            text = f"{field} is {_short(first['input'])}; {first['msg'][0].lower()}{first['msg'][1:]}"
    more = len(problems) - 1
    return text + (f" (and {more} more)" if more else "")


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
        if part in model.model_fields:  # else a key of a mapping, whose values are what the field before says
            model = _model_in(model.model_fields[str(part)].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg))), None)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
