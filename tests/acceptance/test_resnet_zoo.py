"""A zoo of ResNets trains, is killed, goes on with the same bits and publishes, in float32 and in bfloat16."""

from pathlib import Path

import pytest
import yaml

from tests.support.command import Command, done, num_records
from zooforge.storage.zoo import open_zoo
from zooforge.zoo_jobs.catalogue.entries import FOLDER

pytestmark = [pytest.mark.ray, pytest.mark.timeout(0)]  # each command has a deadline of its own

DEADLINE_SECONDS = 4 * 3600.0


def write(folder: Path, precision: str, models: int, epochs: int, train: int, held_out: int) -> Path:
    """The spec of a ResNet zoo of digits, 32 x 32: ``held_out`` images validate, as many test."""
    value = yaml.safe_load((FOLDER / "cifar10-resnet18-seed.yaml").read_text())
    for name in ("reference", "conflicts"):
        del value[name]
    value["axes"]["weight_decay"] = [0.0005]  # YAML 1.1 reads 5e-4 as text
    value |= {
        "name": "digits",
        "origin": "ours",
        "dataset": "mnist5k",
        "preprocessing": {"mean": [0.1307], "std": [0.3081], "resize": 32},
        "split": {"train": train, "val": held_out, "test": held_out, "seed": 42},
        "seeds": f"1:{models + 1}",
        "batch_size": min(64, train),
        "num_epochs": epochs,
        "train_eval_epochs": [0, epochs],
        "precision": precision,
    }
    path = folder / "digits.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


@pytest.mark.parametrize(
    ("precision", "models", "epochs", "train", "held_out"),
    [
        pytest.param("bf16", 3, 2, 16, 8, id="tiny", marks=pytest.mark.slow),
        pytest.param("float32", 8, 3, 1600, 200, id="2000-digits-float32", marks=pytest.mark.slow),
        pytest.param("bf16", 8, 3, 1600, 200, id="2000-digits-bf16", marks=pytest.mark.slow),
    ],
)
def test_a_killed_resnet_zoo_goes_on_with_the_same_bits_and_publishes(
    precision: str, models: int, epochs: int, train: int, held_out: int, zoo: Command, tmp_path: Path
) -> None:
    spec = write(tmp_path, precision, models, epochs, train, held_out)
    options = ("--slots", "1", "--no-metrics", "--quiet")
    again = min(models, 2)  # the kill meets one of these; the others would only take time
    quiet = ("--store", tmp_path / "quiet", "--models", f"0:{again}")
    done(zoo("run", spec, *options, *quiet, deadline_seconds=DEADLINE_SECONDS))
    killed = tmp_path / "killed"
    with zoo.start("run", spec, *options, "--store", killed) as running:
        running.wait_until(lambda: num_records(killed) >= 1, "a record", DEADLINE_SECONDS)
        running.kill()
    assert num_records(killed) < models * (epochs + 1)
    done(zoo("run", spec, *options, "--store", killed, deadline_seconds=DEADLINE_SECONDS))
    resumed, expected = (open_zoo(str(store / "zoos" / "digits")) for store in (killed, tmp_path / "quiet"))
    assert len(resumed) == models
    for epoch in range(epochs + 1):
        left, right = (opened.weights(models=range(again), epochs=[epoch]) for opened in (resumed, expected))
        assert left.values.tobytes() == right.values.tobytes(), epoch
    first = resumed.labels().slice(0, again * (epochs + 1))
    assert first.equals(expected.labels())
    checked = ("--states", "2", "--deep", "--deep-models", "1")
    done(zoo("verify", spec, "--store", killed, *checked, deadline_seconds=DEADLINE_SECONDS))
