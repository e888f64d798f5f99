"""Makes a new spec from a spec and ``key=value`` settings of the command line (``--set``). Pure."""

from collections.abc import Sequence
from typing import Any

from ..errors import InputError, unknown
from .blocks import Axes
from .yaml_values import yaml_values
from .zoo import ZooSpec


def with_overrides(spec: ZooSpec, settings: Sequence[str], *, name: str | None) -> ZooSpec:
    """A new spec: ``spec`` with ``key=value`` settings, under another name.

    Keys are fields, with dots inside blocks (``split.train=4000``); an axis may be named alone
    (``learning_rate=0.01``, ``activation=[tanh, relu]``). Values are YAML.

    Raises:
        InputError: there is no name, or a setting is not valid.
    """
    if not settings:
        return spec
    if name is None or name == spec.name:
        raise InputError(f"--set makes another zoo than {spec.name!r}: name it, e.g. with --name my-zoo")
    value = spec.to_json()
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise InputError(f"--set {setting!r} is not of the form key=value")
        _check_field(key.strip())
        _assign(value, key.strip(), yaml_values(text, f"--set {key}"))
    value |= {
        "name": name,
        "description": f"{spec.description.rstrip('.')}, with {'; '.join(settings)}.",
        "source": f"derived from {spec.name}",
        "origin": "ours",
        "reference": None,
        "reference_twins": None,
    }
    return ZooSpec.from_json(value, f"{spec.name} with --set")


def _check_field(key: str) -> None:
    """Raises InputError if ``key`` does not begin with a field. The message suggests names of fields and axes."""
    names = [*ZooSpec.model_fields, *Axes.model_fields]
    if key.partition(".")[0] not in names:
        raise unknown("field", key, names)


def _assign(value: dict[str, Any], key: str, setting: Any) -> None:
    """Set ``key`` (dotted) in the JSON of a spec. The validation of the spec reports unknown keys later."""
    if key in Axes.model_fields:
        key = f"axes.{key}" if value.get("draws") is None else f"draws.{key}"
    *blocks, last = key.split(".")
    for block in blocks:
        inner = value.get(block)
        if not isinstance(inner, dict):
            inner = value[block] = {}
        value = inner
    if blocks == ["axes"] and last in Axes.model_fields and not isinstance(setting, list):
        setting = [setting]
    value[last] = setting
