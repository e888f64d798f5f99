"""Writes the chart's values.schema.json and docs/values.md from its values.yaml.

Run it as ``python -m zooforge.cluster.values_schema``.

values.yaml is the only place that gives the name, default and description of a value. ``TYPES`` adds what a default
cannot show: choices, patterns, the items of an empty list.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "helm" / "zooforge"

STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
FREE = {"type": "object"}
OBJECTS = {"type": "array", "items": {"type": "object"}}
QUANTITY = {"type": ["string", "integer"], "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}
MAYBE_QUANTITY = {**QUANTITY, "pattern": r"^([0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?)?$"}
NAME = {"type": "string", "pattern": r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", "maxLength": 253}
DURATION = {"type": "string", "pattern": r"^([0-9]+(ms|s|m|h))+$"}
CRON = {"type": "string", "pattern": r"^\S+ \S+ \S+ \S+ \S+$"}
PORTS = {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 65535}}
CIDRS = {"type": "array", "items": {"type": "string", "pattern": r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"}}
DIGEST = {"type": "string", "pattern": r"^(sha256:[0-9a-f]{64})?$"}

# The type of a value by its whole path, or by the last part of the path. The whole path takes precedence.
TYPES: dict[str, dict[str, Any]] = {
    "fullnameOverride": {"type": "string", "maxLength": 40, "pattern": r"^([a-z]([-a-z0-9]*[a-z0-9])?)?$"},
    "mode": {"enum": ["job", "cluster"]},
    "rayVersion": {"type": "string", "pattern": r"^[0-9]+\.[0-9]+\.[0-9]+$"},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "image.pullSecrets": {"type": "array", "items": {"type": "string"}},
    "digest": DIGEST,
    "storage.url": {"type": "string", "pattern": r"^(s3://[a-z0-9][-a-z0-9.]{1,61}[a-z0-9](/[^ ]*)?)?$"},
    "storage.endpoint": {"type": "string", "pattern": r"^(https?://[^/ ]+/?)?$"},
    "storage.credentials": {"enum": ["secret", "workload-identity", "anonymous"]},
    "existingSecret": NAME,
    "storage.caSecret": NAME,
    "storage.secretKey": {"type": "string", "pattern": r"^[-._a-zA-Z0-9]+$"},
    "serviceAccount.name": NAME,
    "annotations": STRINGS,
    "serviceAccountAnnotations": STRINGS,
    "commonAnnotations": STRINGS,
    "labels": STRINGS,
    "commonLabels": STRINGS,
    "nodeSelector": STRINGS,
    "affinity": FREE,
    "tolerations": OBJECTS,
    "topologySpreadConstraints": OBJECTS,
    "env": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    "cpu": QUANTITY,
    "cpuRequest": MAYBE_QUANTITY,
    "memory": QUANTITY,
    "ephemeralStorage": QUANTITY,
    "objectStoreMemory": {"type": "integer", "minimum": 80 * 2**20},
    "workersPerGpu": {"type": "integer", "minimum": 1},
    "workerDefaults.gpu.resource": {"type": "string", "pattern": r"^[-a-z0-9.]+/[-A-Za-z0-9.]+$"},
    "schedule": CRON,
    "submitter.subjects": {"type": "array", "items": {"type": "object", "required": ["kind", "name"]}},
    "interval": DURATION,
    "scrapeTimeout": DURATION,
    "storeCidrs": CIDRS,
    "apiServerCidrs": CIDRS,
    "dnsCidrs": CIDRS,
    "metadataCidrs": CIDRS,
    "storePorts": PORTS,
    "apiServerPorts": PORTS,
    "dnsPorts": PORTS,
    "metadataPorts": PORTS,
    "dnsPodLabels": STRINGS,
    "extraEgress": OBJECTS,
    "run.maxHours": {"type": "number", "minimum": 0},
    "gc.deadlineSeconds": {"type": "integer", "minimum": 60},
    "clusterId": {"type": "string", "pattern": r"^[-._a-zA-Z0-9]*$", "maxLength": 63},
    "embeddedStore.bucket": {"type": "string", "pattern": r"^[a-z0-9][-a-z0-9.]{1,61}[a-z0-9]$"},
    "embeddedStore.size": QUANTITY,
    "extraObjects": {"type": "array", "items": {"type": "object", "required": ["apiVersion", "kind"]}},
    "global": FREE,
}
COMMENT = re.compile(r"^(?P<indent> *)# -- (?P<text>.+)$")
KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):")


def descriptions(text: str) -> dict[str, str]:
    """The ``# --`` comment directly above each value, by the value's dotted path."""
    result: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    comment = ""
    for line in text.splitlines():
        if match := COMMENT.match(line):
            comment = match["text"]
        elif match := KEY.match(line):
            indent = len(match["indent"])
            stack = [(i, k) for i, k in stack if i < indent] + [(indent, match["key"])]
            if comment:
                result[".".join(k for _, k in stack)] = comment
            comment = ""
    return result


def schema(values: dict[str, Any], described: dict[str, str]) -> dict[str, Any]:
    """The closed JSON schema (draft 7) of the chart's values.

    Raises:
        ValueError: a value has no description, or an empty list or map has no entry in ``TYPES``.
    """
    root = _object(values, "", described)
    worker = root["properties"]["workerDefaults"]
    root["properties"]["workerGroups"] = {
        "type": "object",
        "description": described["workerGroups"],
        "additionalProperties": {**worker, "type": ["object", "null"]},
    }
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "zooforge", **root}


def _object(values: dict[str, Any], path: str, described: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {key: _value(v, f"{path}.{key}".lstrip("."), described) for key, v in values.items()},
    }


def _value(value: Any, path: str, described: dict[str, str]) -> dict[str, Any]:
    known = TYPES.get(path) or TYPES.get(path.rsplit(".", 1)[-1])
    if known is None and isinstance(value, dict) and value and path != "workerGroups":
        return _object(value, path, described)
    if path not in described:
        raise ValueError(f"values.yaml: {path} has no `# --` comment above it")
    if known is None:
        if isinstance(value, bool):
            known = {"type": "boolean"}
        elif isinstance(value, int):
            known = {"type": "integer", "minimum": 0}
        elif isinstance(value, str):
            known = {"type": "string"}
        elif path == "workerGroups":
            known = FREE
        else:
            raise ValueError(f"values.yaml: {path} is an empty list or map; say in TYPES what it holds")
    return {**known, "description": described[path]}


def table(values: dict[str, Any], described: dict[str, str]) -> str:
    """The text of docs/values.md: one row per value."""
    rows = [
        f"| `{path}` | `{json.dumps(value)}` | {described[path].replace('|', chr(92) + '|')} |"
        for path, value in _leaves(values, "", described)
    ]
    return (
        "# Values of the chart\n\nWritten from `helm/zooforge/values.yaml` by "
        "`python -m zooforge.cluster.values_schema`; the chart refuses any other key.\n\n"
        "| value | default | what it is |\n|--|--|--|\n" + "\n".join(rows) + "\n"
    )


def _leaves(values: dict[str, Any], path: str, described: dict[str, str]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        here = f"{path}.{key}".lstrip(".")
        if here in described:
            yield here, value
        else:
            yield from _leaves(value, here, described)


def files() -> dict[Path, str]:
    """The generated files: path and text."""
    text = (CHART / "values.yaml").read_text()
    values, described = yaml.safe_load(text), descriptions(text)
    return {
        CHART / "values.schema.json": json.dumps(schema(values, described), indent=2) + "\n",
        ROOT / "docs" / "values.md": table(values, described),
    }


def main() -> None:
    for path, text in files().items():
        path.write_text(text)
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
