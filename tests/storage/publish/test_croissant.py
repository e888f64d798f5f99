"""The Croissant metadata of a zoo have everything that the specification requires, and load as a data set.

Source: docs.mlcommons.org/croissant, format specification 1.0, "Dataset-level information", "Resources", "RecordSets".
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.synthetic import RUN, description, train
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.protocol import ObjectStore

REQUIRED = {"@context", "@type", "conformsTo", "description", "license", "name"}
BY_WHO_PUBLISHES = {"url", "creator", "datePublished"}
TYPES = {"sc:Boolean", "sc:Float", "sc:Integer", "sc:Text"}


@pytest.fixture
def folder(local: ObjectStore) -> Path:
    train(local, range(4), 2)
    vectorize(local, description(), RUN)
    return Path(local.url.removeprefix("file://")) / "zoos/tiny-zoo/versions/0001"


def test_a_zoo_has_everything_that_croissant_requires(folder: Path) -> None:
    value: dict[str, Any] = json.loads((folder / "croissant.json").read_text())
    assert set(value) >= REQUIRED and not set(value) & BY_WHO_PUBLISHES
    assert (value["@type"], value["conformsTo"]) == ("sc:Dataset", "http://mlcommons.org/croissant/1.0")
    assert all(isinstance(value[name], str) and value[name] for name in ("name", "description", "license", "citeAs"))
    assert set(value) - {"@context", "@type"} <= set(value["@context"]) | {
        "name", "description", "license", "distribution", "keywords",
    }  # fmt: skip
    ids = [file["@id"] for file in value["distribution"]]
    assert len(set(ids)) == len(ids)
    for file in value["distribution"]:
        assert set(file) >= {"@type", "@id", "name", "contentUrl", "encodingFormat", "sha256"}
        assert file["@type"] == "cr:FileObject"
        data = (folder / file["contentUrl"]).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), f"{len(data)} B") == (file["sha256"], file["contentSize"])


def test_its_record_set_names_columns_that_are_there(folder: Path) -> None:
    value: dict[str, Any] = json.loads((folder / "croissant.json").read_text())
    files = {file["@id"]: folder / file["contentUrl"] for file in value["distribution"]}
    (records,) = value["recordSet"]
    assert records["@type"] == "cr:RecordSet" and records["field"]
    for field in records["field"]:
        assert set(field) >= {"@type", "@id", "name", "description", "dataType", "source"}
        assert (field["@type"], field["@id"]) == ("cr:Field", f"{records['@id']}/{field['name']}")
        assert field["dataType"] in TYPES
        path = files[field["source"]["fileObject"]["@id"]]
        assert field["source"]["extract"]["column"] in pq.read_schema(path).names
