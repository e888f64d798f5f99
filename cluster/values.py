"""Checks and merges values of the chart before Helm reads them; for a typo it offers the nearest key. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .errors import InputError, nearest


def check(values: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Refuse keys that the chart does not have.

    Raises:
        InputError: names the first unknown key and the nearest known one.
    """
    for path, key, known in _unknown(values, schema, ""):
        close = nearest(key, known)
        offer = f"did you mean {close!r}?" if close else f"known there: {', '.join(sorted(known))}"
        raise InputError(f"values: {path} is no value of the chart; {offer}")


def _unknown(values: Any, schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, list[str]]]:
    if not isinstance(values, Mapping):
        return
    properties = schema.get("properties", {})
    rest = schema.get("additionalProperties", True)
    for key, value in values.items():
        here = f"{path}.{key}".lstrip(".")
        if key in properties:
            yield from _unknown(value, properties[key], here)
        elif rest is False:
            yield here, str(key), list(properties)
        elif isinstance(rest, Mapping):
            yield from _unknown(value, rest, here)


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge layers of values as Helm does: maps key by key; of other values the later layer wins."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merge(result[key], value) if both else value
    return result


def parse_set(settings: Sequence[str]) -> dict[str, Any]:
    """Parse ``a.b=value`` settings into a tree, to check their keys. A dot after a backslash belongs to the key."""
    tree: dict[str, Any] = {}
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals or not path:
            raise InputError(f"--set {setting!r}: expected KEY=VALUE, such as workerGroups.gpu.maxReplicas=8")
        keys = [key.replace("\\.", ".") for key in re.split(r"(?<!\\)\.", path)]
        node = tree
        for key in keys[:-1]:
            below = node.setdefault(re.sub(r"\[\d+\]$", "", key), {})
            if not isinstance(below, dict):
                break
            node = below
        else:
            node[re.sub(r"\[\d+\]$", "", keys[-1])] = value
    return tree


def from_options(image: str | None, store: str | None, secret: str | None) -> dict[str, Any]:
    """The values that the options of `zoo cluster deploy` set."""
    values: dict[str, Any] = {}
    if image is not None:
        values["image"] = image_values(image)
    storage = {name: value for name, value in (("url", store), ("existingSecret", secret)) if value is not None}
    if storage:
        values["storage"] = storage
    return values


def image_values(image: str) -> dict[str, Any]:
    """Parse ``[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`` into the values ``image.*``."""
    name, _, digest = image.partition("@")
    head, slash, rest = name.partition("/")
    is_registry = bool(slash) and ("." in head or ":" in head or head == "localhost")
    registry, path = (head, rest) if is_registry else ("", name)
    repository, _, tag = path.partition(":")
    if not repository or (digest and not digest.startswith("sha256:")):
        raise InputError(f"image {image!r}: expected [REGISTRY/]REPOSITORY[:TAG][@sha256:...]")
    return {"registry": registry, "repository": repository, "tag": tag, "digest": digest}
