"""The JSON Schema of zoo specs, for editors: ``python -m zooforge.zoo_jobs.spec.schema`` prints it."""

import json
import sys
from typing import Any

from ..tasks.registry import TASKS
from .zoo import ZooSpec


def json_schema() -> dict[str, Any]:
    """JSON Schema of a catalogue file, for editors; checked in as docs/zoo-spec.schema.json."""
    schema: dict[str, Any] = ZooSpec.model_json_schema()
    filled = ["preprocessing", "split", "batch_size"]
    for name in ("axes", *filled):
        schema["required"].remove(name)
    schema["anyOf"] = [{"required": ["axes"]}, {"required": ["draws"]}]
    del schema["$defs"]["Preprocessing"]["required"]
    normalised = {"properties": {"preprocessing": {"required": ["mean", "std"]}}}
    schema["if"] = {"properties": {"task": {"const": "image_regression"}}, "required": ["task"]}
    schema["then"] = {"required": list(TASKS["image_regression"].fields)}
    schema["else"] = {"required": filled, **normalised}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "zooforge zoo"}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")
