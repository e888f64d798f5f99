"""Store the configs of imported models with the version of their zoo, so that a later export can write them again.

No reader needs ``origin.json``, and no digest covers it.
"""

import json
from collections.abc import Mapping
from typing import Any

from ...canonical import canonical_json, parse_json
from ...errors import FormatError
from ...keys import copy_key
from ...stores.protocol import ObjectStore, get_or_none
from ...zoo import Zoo

NAME = "origin.json"
FORMAT = "zooforge.origin"
VERSION = 1
_OF_A_MACHINE = ("cuda", "dataset::dump", "training::checkpoint_dir")  # not published: paths and settings of a machine


def write_origin(store: ObjectStore, zoo: str, number: int, configs: Mapping[int, Mapping[str, Any]]) -> None:
    """Write the configs of the models of version ``number``. Members that all configs share are written once."""
    kept = {
        index: {name: value for name, value in config.items() if name not in _OF_A_MACHINE}
        for index, config in configs.items()
    }
    first = next(iter(kept.values()), {})
    common = {
        name: value
        for name, value in first.items()
        if all(name in config and _same(config[name], value) for config in kept.values())
    }
    models = {
        str(index): {name: value for name, value in config.items() if name not in common}
        for index, config in kept.items()
    }
    value = {"format": FORMAT, "version": VERSION, "common": common, "models": models}
    storable = json.loads(json.dumps(value), parse_constant=str, parse_int=_integer_or_text)  # NaN becomes text
    store.put(copy_key(zoo, number, NAME), canonical_json(storable))


def _integer_or_text(text: str) -> int | str:
    """The integer, or its text if it needs more than 64 bits, because readers of the store's JSON refuse it then."""
    return int(text) if -(2**63) <= int(text) < 2**64 else text


def read_origin(zoo: Zoo) -> dict[int, dict[str, Any]]:
    """The config of each model. It is empty if the zoo was not imported, or if its copy lacks the file."""
    key = copy_key(zoo.name, zoo.version, NAME)
    stored = get_or_none(zoo.store, key)
    if stored is None:
        return {}
    value = parse_json(stored[0], key)
    try:
        if (value["format"], value["version"]) != (FORMAT, VERSION):
            raise ValueError("another format or version")
        return {int(index): {**value["common"], **config} for index, config in value["models"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{key}: not what an import writes ({error})") from None


def _same(one: Any, other: Any) -> bool:
    """True if two values are equal and of the same type. A tree may write a dropout ratio as 0 or as 0.0."""
    return type(one) is type(other) and bool(one == other)
