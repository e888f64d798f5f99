"""The values of the e2e steps, rendered: the chart accepts them."""

import pytest
import yaml

from tests.e2e.faults import NOT_OF_A_STORE
from tests.e2e.surroundings import VALUES
from tests.support.chart_render import missing, render

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def test_the_chart_accepts_a_release_that_is_only_a_store() -> None:
    values = {**yaml.safe_load(VALUES.read_text()), "storage": {"existingSecret": "zoo-store"}, "clusterId": "test"}
    for path in NOT_OF_A_STORE:
        part = values
        for key in path.split("."):
            part = part.setdefault(key, {})
        part["enabled"] = False
    manifests = render(values)
    assert [made["metadata"]["name"] for made in manifests if made["kind"] == "Deployment"] == ["zoo-store"]
    assert "CronJob" not in {made["kind"] for made in manifests}
