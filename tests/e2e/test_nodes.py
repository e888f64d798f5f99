"""On one node the drain is skipped and counted, and the node is not changed."""

import json
from typing import Any

import pytest

from tests.e2e import nodes, surroundings
from tests.e2e.quiet import QuietRuns


@pytest.mark.parametrize("spare", [[], [{"metadata": {"name": "b"}, "spec": {"unschedulable": True}}]])
def test_a_drain_without_a_second_node_is_skipped_and_counted(
    spare: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[str, ...]] = []

    def sh(*command: str, **options: object) -> str:
        commands.append(command)
        return json.dumps({"items": [{"metadata": {"name": "a"}, "spec": {}}, *spare]})

    monkeypatch.setattr(nodes, "sh", sh)
    monkeypatch.setattr(surroundings, "skipped", [])
    with QuietRuns({}) as quiet:
        nodes.drain(quiet)
    assert surroundings.skipped == ["there is no second node: no node was drained"]
    assert commands == [("kubectl", "get", "nodes", "-o", "json")]
