"""The schema and the table of the chart's values follow from values.yaml."""

from __future__ import annotations

import json
from typing import Any

from zooforge.cluster import values_schema


def test_the_schema_and_the_table_are_those_of_the_values() -> None:
    for path, text in values_schema.files().items():
        assert path.read_text() == text, f"{path.name} is out of date: python -m zooforge.cluster.values_schema"


def test_every_value_has_a_description_in_the_schema() -> None:
    def leaves(schema: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
        if schema.get("additionalProperties") is False:
            return [leaf for key, value in schema["properties"].items() for leaf in leaves(value, f"{path}.{key}")]
        return [(path, schema)]

    schema = json.loads((values_schema.CHART / "values.schema.json").read_text())
    assert [path for path, leaf in leaves(schema, "") if len(leaf.get("description", "")) < 8] == []
