"""A worker reads the facts of its node: the seconds of notice, the price, whether it has a GPU."""

from pathlib import Path
from typing import Any

import pytest

from zooforge.storage.errors import FormatError
from zooforge.storage.runs.run_files import read_attempts, read_chunk, read_control, write_chunk
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.open import open_store
from zooforge.zoo_jobs.catalogue.entries import load
from zooforge.zoo_jobs.cli import main
from zooforge.zoo_jobs.events import Advance
from zooforge.zoo_jobs.planning import machines
from zooforge.zoo_jobs.planning.machines import Rate
from zooforge.zoo_jobs.planning.units import Task
from zooforge.zoo_jobs.running import account, drive, notice
from zooforge.zoo_jobs.running.slots.unit_runner import UnitRunner
from zooforge.zoo_jobs.running.slots.worker import WorkerContext
from zooforge.zoo_jobs.running.stage import most_models


@pytest.mark.parametrize(
    ("said", "seconds"), [({}, 90.0), ({"ZOO_NOTICE_SECONDS": "15"}, 15.0), ({"ZOO_NOTICE_SECONDS": "120"}, 90.0)]
)
def test_a_node_may_only_shorten_the_notice(said: dict[str, str], seconds: float) -> None:
    assert notice.node_notice_seconds(said, 90.0) == seconds


def test_a_notice_that_is_no_number_is_logged_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    assert notice.node_notice_seconds({"ZOO_NOTICE_SECONDS": "soon"}, 90.0) == 90.0
    assert "ZOO_NOTICE_SECONDS is no number" in caplog.text


def test_a_task_is_no_larger_than_what_fits_into_the_notice(caplog: pytest.LogCaptureFixture) -> None:
    zoo = load("mnist-cnn-s-seed")
    node = {"ZOO_MACHINE": "epyc-zen4-2", "ZOO_NOTICE_SECONDS": "60"}
    few, many = (
        most_models(zoo, "lanes", node, 90.0),
        most_models(zoo, "lanes", {**node, "ZOO_NOTICE_SECONDS": "9000"}, 1e9),
    )
    assert few is not None
    assert many is not None
    assert 1 <= few < many
    assert many % 16 == 0
    assert caplog.text == ""
    assert most_models(zoo, "lanes", {**node, "ZOO_NOTICE_SECONDS": "0.001"}, 90.0) == 1
    assert "an epoch does not fit into the notice" in caplog.text
    for unknown in ({}, {"ZOO_NOTICE_SECONDS": "60"}, {**node, "ZOO_MACHINE": "abacus"}):
        assert most_models(zoo, "lanes", unknown, 90.0) is None


def test_the_rate_of_workers_that_share_a_gpu_decides_how_much_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    rate = Rate(
        engine="sequential", architecture="resnet18", channels=3, twins=False, date="2026-11-30", workers_per_gpu=2,
        train_samples_per_second=10_000, eval_samples_per_second=40_000,
    )  # fmt: skip
    table = machines._rates()
    rates = table.machines | {"h200-141g": table.machines["h200-141g"].model_copy(update={"rates": (rate,)})}
    monkeypatch.setattr(machines, "_rates", lambda: table.model_copy(update={"machines": rates}))
    zoo, node = load("cifar10-resnet18-seed"), {"ZOO_MACHINE": "h200-141g", "ZOO_NOTICE_SECONDS": "600"}
    assert most_models(zoo, "sequential", node, 600.0) is None  # not measured for one worker per GPU
    assert most_models(zoo, "sequential", node, 600.0, workers_per_gpu=2) is not None


PRICES = """
currency: USD
prices:
  cpu-core: {dollars_per_hour: 0.05, per_core: true, date: 2026-11-24, source: a test}
  cpu-core-spot: {dollars_per_hour: 0.02, per_core: true, date: 2026-11-24, source: a test}
  h200-141g: {dollars_per_hour: 4.0, date: 2026-11-24, source: a test}
  l4: {dollars_per_hour: 0.7, date: 2026-11-24, source: a test}
"""


@pytest.mark.parametrize(
    ("machine", "price_class", "dollars"),
    [
        ("epyc-zen4-2", "on-demand", 0.05),
        ("epyc-zen4-2", "spot", 0.02),
        ("h200-141g", "on-demand", 4.0),
        ("h200-141g", "spot", 4.0),
        ("l4", "on-demand", 0.7),
        ("c3-44", "on-demand", None),
        ("", "spot", None),
    ],
)
def test_a_slot_costs_what_its_machine_and_price_class_say(
    machine: str, price_class: str, dollars: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prices.yaml").write_text(PRICES)
    monkeypatch.setattr(machines, "PRICES", tmp_path / "prices.yaml")
    machines._prices.cache_clear()
    try:
        environment = {"ZOO_MACHINE": machine, "ZOO_PRICE_CLASS": price_class}
        assert machines.slot_price(environment) == dollars
        if dollars is not None and machine in ("h200-141g", "l4"):
            assert machines.slot_price(environment, 0.5) == dollars / 2
    finally:
        machines._prices.cache_clear()


@pytest.mark.parametrize("killed", [False, True])
def test_a_run_that_is_out_of_memory_stops_and_the_next_attempt_begins_with_the_smaller_chunk(
    killed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_memory(self: UnitRunner, task: Task, part: int) -> Advance:
        raise MemoryError("cannot allocate 3 GiB")

    store, zoo = open_store(str(tmp_path / "store")), load("digits8-cnn-s")
    options = "--models 0:16 --epochs 1 --ray none --no-metrics --quiet --store"
    command = ["train", zoo.name, *options.split()]
    with monkeypatch.context() as patched:
        patched.setattr(UnitRunner, "advance", no_memory)
        if killed:  # before it recorded the end of its attempt
            patched.setattr(account, "end_attempt", lambda *arguments: None)
        assert main([*command, str(tmp_path / "store")]) == 1
    assert "out of memory: unit" in capsys.readouterr().err
    control = read_control(store, zoo.run_id)
    assert control is not None
    assert control.wanted == "stopped" and "cannot allocate 3 GiB" in control.reason
    left = read_chunk(store, zoo.run_id, "lanes")
    assert left is not None and left < 16
    begun: list[int | None] = []

    def context(*arguments: Any, **settings: Any) -> WorkerContext:
        begun.append(settings["chunk_models"])
        return WorkerContext(*arguments, **settings)

    monkeypatch.setattr(drive, "WorkerContext", context)
    assert main([*command, str(tmp_path / "store"), "--chunk-models", "16", "--epochs", "0"]) == 0
    assert main([*command, str(tmp_path / "store")]) == 0
    assert begun == [16, left]
    assert read_chunk(store, zoo.run_id, "sequential") is None


def test_a_chunk_that_is_no_number_is_named() -> None:
    store = MemoryStore()
    write_chunk(store, "a" * 32, "lanes", 0)
    with pytest.raises(FormatError, match="`chunk_models` is 0, expected a positive integer"):
        read_chunk(store, "a" * 32, "lanes")


def test_the_names_of_who_trains_and_publishes_are_in_run_and_status_and_nowhere_in_the_published_zoo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOGNAME", "canary-user")
    monkeypatch.setenv("ZOO_ACCOUNT", "canary-space/canary-account")
    monkeypatch.setattr("platform.node", lambda: "canary-host")
    url = str(tmp_path / "store")
    options = "--models 0:8 --epochs 1 --twin-epochs 1 --ray none --no-metrics --quiet --store"
    assert main(["run", "digits8-cnn-s", *options.split(), url]) == 0
    store, zoo = open_store(url), load("digits8-cnn-s")
    (attempt,) = read_attempts(store, zoo.run_id)
    said = {name: attempt.start[name] for name in ("user", "host", "account")}
    assert said == {"user": "canary-user", "host": "canary-host", "account": "canary-space/canary-account"}
    holders = {stat.key.split("/")[0] for stat in store.list("") if b"canary" in store.get(stat.key)[0]}
    assert holders == {"runs"}
    assert len([stat for stat in store.list("zoos/") if stat.key.endswith("/manifest.json")]) == 2
    capsys.readouterr()
    assert main(["status", "digits8-cnn-s", "--store", url]) == 0
    shown = capsys.readouterr().out
    assert "started by service account canary-space/canary-account on canary-host" in shown
    assert shown.count("version 1 published by service account canary-space/canary-account on canary-host") == 2
