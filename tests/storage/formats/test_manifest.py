"""Manifests from outside are read, or refused in one line, in little time and memory, whatever they contain."""

import json
import tracemalloc
from typing import Any

import pytest

from tests.support.synthetic import RUN, description, train
from zooforge.storage.errors import FormatError
from zooforge.storage.formats.manifest import Manifest
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.memory import MemoryStore


@pytest.fixture
def value() -> dict[str, Any]:
    store = MemoryStore()
    train(store, range(4), 1)
    output: dict[str, Any] = json.loads(vectorize(store, description(), RUN).manifest.to_json())
    return output


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v["shards"][0]["rows"].append({"epochs": [[0, 10**7]], "models": [[0, 10**7]]}),
        lambda v: v["shards"][0].update(rows=[{"epochs": [[0, 10**7]], "models": [[0, 1]]}]),
        lambda v: (
            v.update(shard_shape=[10**7, 10**7]),
            v["shards"][0].update(rows=[{"epochs": [[0, 10**7]], "models": [[0, 4]]}]),
        ),
        lambda v: v["shards"][0]["rows"].append({"epochs": [[0, 1]], "models": []}),
        lambda v: v["shards"][0].update(first_model=10**15),
        lambda v: v["layout"][0].update(shape=[-2, -1, 2, 2]),
        lambda v: v["layout"][0].update(shape=[2**40, 2**40, 1, 1]),
        lambda v: v["layout"][0].update(shape=[2.0, 1, 2, 2]),
        lambda v: v.update(num_states=10**18),
        lambda v: v.update(models=[[0, 10**18]]),
        lambda v: v["fields"][""].update(values=10**18),
        lambda v: v["split"]["rule"].update(seed="x"),
        lambda v: v.update(parent={"zoo": "a"}),
        lambda v: v.update(title=None),
    ],
)  # fmt: skip
def test_a_small_manifest_that_declares_huge_values_is_refused_by_name_in_little_memory(
    value: dict[str, Any], change: Any
) -> None:
    change(value)
    data = json.dumps(value).encode()
    tracemalloc.start()
    try:
        with pytest.raises(FormatError) as raised:
            Manifest.from_json(data, "manifest")
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 1000


def test_ranges_in_pieces_are_one_set(value: dict[str, Any]) -> None:
    value["models"] = [[0, 1], [1, 3], [3, 4]]
    assert Manifest.from_json(json.dumps(value).encode(), "manifest").num_models == 4
