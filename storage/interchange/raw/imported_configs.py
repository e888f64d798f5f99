"""Configs of imported models, word for word, beside the version that they became: for those who export them again.

``origin.json`` is a courtesy copy: no reader needs it, no digest covers it.
"""

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
_OF_A_MACHINE = ("cuda", "dataset::dump", "training::checkpoint_dir")  # where it ran is nobody's business


def write_origin(store: ObjectStore, zoo: str, number: int, configs: Mapping[int, Mapping[str, Any]]) -> None:
    """Write the configs of the models of version ``number``: what all have in common once, then what differs."""
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
    store.put(copy_key(zoo, number, NAME), canonical_json(value))


def read_origin(zoo: Zoo) -> dict[int, dict[str, Any]]:
    """Config by model; empty for a zoo that was not imported, or whose copy has it not."""
    key = copy_key(zoo.name, zoo.version, NAME)
    found = get_or_none(zoo.store, key)
    if found is None:
        return {}
    value = parse_json(found[0], key)
    try:
        if (value["format"], value["version"]) != (FORMAT, VERSION):
            raise ValueError("another format or version")
        return {int(index): {**value["common"], **config} for index, config in value["models"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{key}: not what an import writes ({error})") from None


def _same(one: Any, other: Any) -> bool:
    """Equal and of one type: 0 and 0.0 are two ways in which trees say that there is no dropout."""
    return type(one) is type(other) and bool(one == other)
