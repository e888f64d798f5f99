"""The JSON Schema of zoo specs, for editors: ``python -m zooforge.zoo_jobs.spec.schema`` prints it."""

import json
import sys
from typing import Any

from .zoo import ZooSpec


def json_schema() -> dict[str, Any]:
    """JSON Schema of a catalogue file, for editors; checked in as docs/zoo-spec.schema.json."""
    schema: dict[str, Any] = ZooSpec.model_json_schema()
    schema["required"].remove("axes")
    schema["anyOf"] = [{"required": ["axes"]}, {"required": ["draws"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "zooforge zoo"}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")
