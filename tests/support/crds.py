"""The operators' CRDs as closed JSON schemas, small enough to keep.

``python -m tests.support.crds FOLDER > tests/support/crds.json`` writes them.
FOLDER holds the CRDs as their projects release them. Descriptions are left out, repeated parts become definitions, and
unknown fields are refused, which the API server would prune silently.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import yaml

KINDS = ("RayCluster", "RayJob", "PodMonitor", "PrometheusRule")
SOURCE = (
    "KubeRay 1.6.2, https://github.com/ray-project/kuberay, and prometheus-operator 0.83.0, "
    "https://github.com/prometheus-operator/prometheus-operator; both Apache-2.0; changed as tests/support/crds.py says"
)
LEFT_OUT = {"description", "default", "format", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
            "x-kubernetes-map-type", "x-kubernetes-validations"}  # fmt: skip
LEAST_CHARACTERS = 120  # of a part that is worth a definition of its own
KEPT = Path(__file__).parent / "crds.json"


def schemas(folder: Path) -> dict[str, Any]:
    """The schema of each kind, without status, by apiVersion/kind."""
    known = {}
    for path in sorted(folder.glob("*.yaml")):
        spec = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["spec"]
        for version in spec["versions"]:
            if spec["names"]["kind"] in KINDS and version["served"] and version["name"] == "v1":
                schema = closed(version["schema"]["openAPIV3Schema"])
                schema["properties"].pop("status", None)
                known[f"{spec['group']}/v1/{spec['names']['kind']}"] = schema
    return known


def closed(schema: Any) -> Any:
    """A CRD's structural schema as a closed JSON schema, without words."""
    if not isinstance(schema, dict):
        return [closed(item) for item in schema] if isinstance(schema, list) else schema
    result = {key: closed(value) for key, value in schema.items() if key not in LEFT_OUT and key != "properties"}
    if result.pop("x-kubernetes-int-or-string", None):
        result.pop("anyOf", None)
        result["type"] = ["integer", "string"]
    open_ = bool(result.pop("x-kubernetes-preserve-unknown-fields", False))
    if "properties" in schema:
        result["properties"] = {name: closed(value) for name, value in schema["properties"].items()}
        if {"apiVersion", "metadata"} <= set(schema["properties"]):
            result["properties"]["metadata"] = {"type": "object"}
        result.setdefault("additionalProperties", open_)
    return result


def folded(known: dict[str, Any]) -> dict[str, Any]:
    """The schemas in one value, with definitions of the parts that occur more than once."""
    counts: Counter[str] = Counter()

    def count(value: Any) -> None:
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            if _folds(item):
                counts[_text(item)] += 1
            if counts[_text(item)] <= 1:
                count(item)

    def fold(value: Any) -> Any:
        if isinstance(value, list):
            return [fold(item) for item in value]
        if not isinstance(value, dict):
            return value
        result = {}
        for key, item in value.items():
            if _folds(item) and counts[_text(item)] > 1:
                name = hashlib.sha256(_text(item).encode()).hexdigest()[:8]
                if name not in definitions:
                    definitions[name] = fold(item)
                item = {"$ref": f"#/definitions/{name}"}
            result[key] = fold(item)
        return result

    definitions: dict[str, Any] = {}
    count(known)
    return {"source": SOURCE, "kinds": fold(known), "definitions": definitions}


def _folds(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str) and len(_text(value)) > LEAST_CHARACTERS


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


@cache
def of_kinds() -> dict[tuple[str, str], dict[str, Any]]:
    """The schemas by apiVersion and kind: those kept here, or of the CRDs in the folder KUBERAY_CRDS."""
    folder = os.environ.get("KUBERAY_CRDS")
    kept = folded(schemas(Path(folder))) if folder else json.loads(KEPT.read_text())
    return {
        (name.rpartition("/")[0], name.rpartition("/")[2]): {**schema, "definitions": kept["definitions"]}
        for name, schema in kept["kinds"].items()
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(folded(schemas(Path(sys.argv[1]))), sort_keys=True, separators=(",", ":")) + "\n")
