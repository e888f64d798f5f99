"""`verify --deep` compares bits only if the engine repeats them."""

from pathlib import Path

import pytest

from tests.support.fake_cuda import see_cuda
from zooforge.storage.stores.open import open_store
from zooforge.zoo_jobs.catalogue.entries import load
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.publishing.recompute import retrain

OPTIONS = "--models 0:2 --epochs 1 --ray none --slots 1 --no-metrics --quiet"


@pytest.mark.parametrize(("engine", "outcome"), [("sequential", "equal"), ("stacked", "not recomputed")])
def test_bits_are_compared_where_the_engine_repeats_them(
    engine: str, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_cuda(monkeypatch, device=False)
    url = str(tmp_path / "store")
    assert main(["run", "digits8-cnn-s", *OPTIONS.split(), "--no-twins", "--engine", engine, "--store", url]) == 0
    checks = retrain(open_store(url), url, load("digits8-cnn-s"), 1)
    assert [check.outcome for check in checks] == [outcome]
    if engine == "stacked":
        assert "does not promise the same bits" in checks[0].detail
