"""The rules by which a soak run counts as growing or slowing down."""

from typing import Any

import pytest

from tests.chaos.soak import SAMPLE_SECONDS, MiB, faults


def samples(**per_hour: float) -> list[dict[str, Any]]:
    """Samples of two hours. Each quantity is constant unless ``per_hour`` gives its increase."""
    level = {"driver_bytes": 400 * MiB, "worker_bytes": 300 * MiB, "driver_files": 50, "driver_threads": 40,
             "ray_bytes": 20 * MiB, "status_seconds": 1.0}  # fmt: skip
    samples = []
    for number in range(240):
        second = number * SAMPLE_SECONDS
        grown = {name: value + per_hour.get(name, 0) * second / 3600 for name, value in level.items()}
        samples.append({"second": second, "parts": 100 * number, **grown})
    return samples


def test_constant_quantities_have_no_faults() -> None:
    assert faults(samples()) == []


@pytest.mark.parametrize(
    ("name", "grows", "said"),
    [
        ("driver_bytes", 100 * MiB, "driver_bytes grows by 100.0 MiB an hour, the limit is 60"),
        ("driver_files", 30, "driver_files grows by 30.0 an hour, the limit is 10"),
        ("status_seconds", 60, "`zoo status` took 120 s"),
    ],
)
def test_growing_quantities_are_reported(name: str, grows: float, said: str) -> None:
    assert faults(samples(**{name: grows})) == [said]


def test_commits_that_become_rare_are_reported() -> None:
    slower = samples()
    for number, sample in enumerate(slower):
        sample["parts"] = 100 * number if number < 150 else 15_000 + 20 * (number - 150)
    assert faults(slower) == ["40 parts a minute in the end, 200 in the beginning"]
