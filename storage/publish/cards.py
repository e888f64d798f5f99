"""Courtesy copies beside a manifest: a card, an index for readers of the reference's format, Croissant, checksums.

Readers of a zoo do not need them. They follow from manifest and description, and are written after the manifest.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from ..canonical import sha256_hex
from ..formats.index_dict import index_dict
from ..formats.manifest import Manifest
from ..keys import copy_key
from ..stores.objects import get_object
from ..stores.protocol import ObjectStore, get_or_none
from .description import ZooDescription

LICENSE = """Creative Commons Attribution 4.0 International (CC BY 4.0)

SPDX-License-Identifier: CC-BY-4.0

You may copy, redistribute, adapt and build upon this dataset, also commercially, if you give appropriate credit,
link to the licence and say whether you changed anything. It comes without warranties.

The legal text: https://creativecommons.org/licenses/by/4.0/legalcode
"""


WEIGHTS_TABLE = "weights.parquet"
"""Written by ``zoo publish --weights-table``."""
CARRIED = ("google_layout.csv", "google_metrics.csv.gz", "origin.json")
"""Files of a version that no manifest names and that cannot be made again. Every copy of the zoo contains them."""

CITATION, RECORD = "CITATION.cff", "datacite.json"
"""The citation that `zoo publish` writes: copies of the whole zoo take it along as it is."""

FIGURES = ("accuracy-over-epochs.png", "final-accuracy.png", "final-accuracy-by.png")
"""Pictures beside a card that shows them, as `zoo publish` draws them."""


def carried_files(store: ObjectStore, zoo: str, number: int, names: tuple[str, ...] = CARRIED) -> dict[str, bytes]:
    """Those files of version ``number`` that are there, by name."""
    stored = {name: get_or_none(store, copy_key(zoo, number, name)) for name in names}
    return {name: content[0] for name, content in stored.items() if content is not None}


def write_copies(store: ObjectStore, description: ZooDescription, manifest: Manifest, number: int) -> None:
    """Write all copies of version ``number``. Writing them again gives the same bytes."""
    labels = get_object(store, manifest.labels.ref, f"zoo {manifest.zoo!r}")
    models = get_object(store, manifest.model_table.ref, f"zoo {manifest.zoo!r}")
    copies = {
        "README.md": card(description, manifest).encode(),
        "croissant.json": pretty(croissant(description, manifest)),
        "LICENSE": LICENSE.encode(),
        "labels.parquet": labels,
        "models.parquet": models,
    }
    index = index_dict(manifest.layout, manifest.state_dict_names.get("plain", {}))
    if index is not None:
        copies["index_dict.json"] = pretty(index)
    copies["SHA256SUMS"] = checksums(manifest, copies).encode()
    for name, data in copies.items():
        store.put(copy_key(manifest.zoo, number, name), data)


def checksums(manifest: Manifest, copies: dict[str, bytes]) -> str:
    """For ``sha256sum -c`` in the folder of the version: copies, then objects."""
    lines = [f"{sha256_hex(data)}  {name}" for name, data in sorted(copies.items())]
    lines += [f"{ref.sha256}  ../../../../{ref.key}" for ref in manifest.refs]
    return "\n".join(lines) + "\n"


def card(
    description: ZooDescription,
    manifest: Manifest,
    first: str = "",
    last: str = "",
    tables: Sequence[str] = ("labels",),
) -> str:
    """The card that people read, with the header that Hugging Face reads.

    Args:
        first: paragraphs after the title.
        last: lines before that of the licence.
        tables: names of the configurations of ``datasets.load_dataset``, each a Parquet file beside the card.
    """
    configs = "\n".join(f"- config_name: {name}\n  data_files: {name}.parquet" for name in tables)
    counts = manifest.split_counts
    notes = "".join(f"- {note}\n" for note in description.notes)
    parent = ""
    if manifest.parent is not None:
        parent = f"Twins of `{manifest.parent.zoo}` at epoch {manifest.parent.epoch}, model by model.\n\n"
    packed = ""
    if manifest.compression is not None:
        packed = (
            f"- shards are compressed without loss ({manifest.compression.codec}); reading one epoch unpacks up to "
            f"{manifest.compression.key_epochs}\n"
        )
    lines = f"""---
license: cc-by-4.0
pretty_name: {yaml_text(description.title or description.name)}
tags: [model-zoo, weight-space-learning, {yaml_word(manifest.architecture["name"])}, {yaml_word(manifest.dataset)}]
configs:
{configs}
---

# {description.title or description.name}

{first}{manifest.describe()} of `{manifest.architecture["name"]}` on {manifest.dataset}: \
{manifest.num_states:,} states of \
{manifest.layout.size:,} values each, float32.

{parent}Source: {description.source}

## Read it

```python
import zooforge

zoo = zooforge.open_zoo("URL/zoos/{manifest.zoo}")  # URL: a path, s3://bucket/prefix or https://
states = zoo.weights(split="train", epochs="{max(0, manifest.num_epochs - 1)}:{manifest.num_epochs + 1}")
labels = zoo.labels().to_pandas()
```

`labels.parquet` has one row per model and epoch, `models.parquet` one per model. Every object is named with its
SHA-256 in `manifest.json`; the format is specified in docs/format.md of zooforge, with a reader of 60 lines.

## What is in it

- models: {manifest.num_models:,} of {manifest.planned_models:,} planned; epochs 0 to {manifest.num_epochs} \
of {manifest.planned_epochs}
- splits over models: {counts["train"]:,} train, {counts["val"]:,} val, {counts["test"]:,} test
- fields: {", ".join(f"`{name or 'weights'}`" for name in sorted(manifest.fields))}
- models that stopped being finite stay, labelled with `faulty_epoch` and `faulty_reason`
{packed}{notes}{last}
Licence: CC BY 4.0.
"""
    return lines


def yaml_text(text: str) -> str:
    """A double-quoted YAML scalar that reads back as ``text``, whatever is in it."""
    return '"' + "".join(_yaml_character(character) for character in text) + '"'


def yaml_word(text: str) -> str:
    """A YAML scalar that reads back as ``text``: plain where it is a simple word, else quoted."""
    reserved = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
    plain = re.fullmatch(r"[a-z][a-z0-9-]*", text) is not None and text not in reserved
    return text if plain else yaml_text(text)


def _yaml_character(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return f"\\U{ord(character):08x}"


def croissant(description: ZooDescription, manifest: Manifest) -> dict[str, Any]:
    """Metadata in the Croissant vocabulary, version 1.0: labels as a record set, objects as files.

    ``url``, ``creator`` and ``datePublished`` do not follow from a zoo; they are added when it is published somewhere.
    """
    types = {
        "int32": "sc:Integer",
        "int64": "sc:Integer",
        "float64": "sc:Float",
        "string": "sc:Text",
        "bool": "sc:Boolean",
        "int32[]": "sc:Integer",
    }
    files = [
        {
            "@type": "cr:FileObject",
            "@id": ref.sha256,
            "name": ref.sha256,
            "contentUrl": f"../../../../{ref.key}",
            "contentSize": f"{ref.bytes} B",
            "encodingFormat": "application/x-parquet" if ref.kind == "parquet" else "application/octet-stream",
            "sha256": ref.sha256,
        }
        for ref in manifest.refs
    ]
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"labels/{column.name}",
            "name": column.name,
            "description": column.meaning,
            "dataType": types[column.type],
            **({"repeated": True} if column.type == "int32[]" else {}),
            "source": {"fileObject": {"@id": manifest.labels.ref.sha256}, "extract": {"column": column.name}},
        }
        for column in manifest.label_columns
    ]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": manifest.zoo,
        "description": f"{description.title or description.name}. {manifest.describe()}. {description.source}",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": "https://creativecommons.org/licenses/by/4.0/",
        "citeAs": description.source,
        "keywords": ["model zoo", "weight space learning", manifest.architecture["name"], manifest.dataset],
        "distribution": files,
        "recordSet": [{"@type": "cr:RecordSet", "@id": "labels", "name": "labels", "field": fields}],
    }


_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def pretty(value: Any) -> bytes:
    """Indented JSON; equal values give equal bytes."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
