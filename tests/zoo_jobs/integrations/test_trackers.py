"""TensorBoard and MLflow get what a run commits, and their failures do not disturb the run."""

import shutil
import struct
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.simulated_runs import committed, started
from zooforge.zoo_jobs.errors import InputError
from zooforge.zoo_jobs.events import StageEnded
from zooforge.zoo_jobs.integrations.trackers import Tracker, trackers_from


class Recorder:
    errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, fails: bool = False) -> None:
        self.written: list[tuple[str, int, Mapping[str, float]]] = []
        self.calls, self.closed, self._fails = 0, False, fails

    def write(self, zoo: str, run: str, epoch: int, figures: Mapping[str, float]) -> None:
        self.calls += 1
        if self._fails:
            raise OSError("disk full")
        self.written.append((zoo, epoch, figures))

    def attach(self, zoo: str, run: str, folder: Path) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def test_an_epoch_is_written_once_when_every_model_has_come_that_far() -> None:
    sink = Recorder()
    with Tracker(sink) as tracker:
        tracker(started("tiny", models=6))
        tracker(committed("tiny", range(4), 0, accuracy=[0.1, 0.2, 0.3, 0.4]))
        tracker(committed("tiny", range(4), 1))
        tracker(committed("tiny", (4, 5), 0, accuracy=[0.5], faulty={"nan": 1}))
        tracker(StageEnded("tiny", "train", "stopped"))
    (_, first, whole), (_, second, rest) = sink.written
    assert (first, second) == (0, 1)
    assert whole["models"] == 6 and whole["faulty"] == 1
    assert whole["test_accuracy/q0.5"] == pytest.approx(0.3)
    assert "sparsity/q0.5" not in whole
    assert rest["models"] == 4  # this driver's part of an epoch that is not complete
    assert sink.closed


def test_the_report_of_a_zoo_reaches_every_tracker_as_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("tensorboardX")
    report = tmp_path / "written"
    report.mkdir()
    (report / "index.html").write_text("<p>all of it")
    kept: list[str] = []
    sink = Recorder()
    sink.attach = lambda zoo, run, folder: kept.append((folder / "index.html").read_text())
    (board,) = trackers_from({"ZOO_TRACKERS": f"tensorboard:{tmp_path / 'runs'}"})
    with Tracker(sink) as tracker, board:
        for one in (tracker, board):
            one(started("tiny"))
            one.attach("tiny", "a" * 32, report)
        shutil.rmtree(report)
    assert kept == ["<p>all of it"]
    assert (tmp_path / "runs" / "tiny" / "report" / "index.html").read_text() == "<p>all of it"
    assert caplog.records == []


def test_the_first_failure_of_a_tracker_is_logged_and_it_is_not_called_again(caplog: pytest.LogCaptureFixture) -> None:
    sink = Recorder(fails=True)
    with Tracker(sink) as tracker:
        tracker(started("tiny", models=4))
        for epoch in range(5):
            tracker(committed("tiny", range(4), epoch))
    assert sink.calls == 1
    assert [record.getMessage() for record in caplog.records] == ["a tracker failed and is not used any more"]


def test_tensorboard_gets_one_run_per_zoo_with_quantiles_per_epoch(tmp_path: Path) -> None:
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    (tracker,) = trackers_from({"ZOO_TRACKERS": f"tensorboard:{tmp_path}"})
    with tracker:
        for zoo, stage in (("tiny", "train"), ("tiny-vd", "sparsify")):
            tracker(started(zoo, models=4, stage=stage))
            for epoch in range(3):
                sparsity = [0.1 * epoch] * 4 if stage == "sparsify" else []
                tracker(committed(zoo, range(4), epoch, stage=stage, accuracy=[0.2 * epoch] * 4, sparsity=sparsity))
    assert {path.name for path in tmp_path.iterdir()} == {"tiny", "tiny-vd"}
    values: dict[tuple[str, int], float] = {}
    for path in (tmp_path / "tiny-vd").iterdir():
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            event = event_pb2.Event.FromString(data[12 : 12 + size])
            values |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
            data = data[16 + size :]
    assert values["test_accuracy/q0.5", 2] == pytest.approx(0.4)
    assert values["sparsity/q1.0", 2] == pytest.approx(0.2)
    assert {step for _, step in values} == {0, 1, 2}


def test_mlflow_continues_the_run_that_a_zoo_has(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer()
    module: Any = types.ModuleType("mlflow")
    module.exceptions = types.SimpleNamespace(MlflowException=ValueError)
    module.MlflowClient = lambda tracking_uri: server
    monkeypatch.setitem(sys.modules, "mlflow", module)
    for epochs in (range(2), range(2, 4)):
        (tracker,) = trackers_from({"ZOO_TRACKERS": "mlflow:http://tracking:5000"})
        with tracker:
            tracker(started("tiny", models=4))
            for epoch in epochs:
                tracker(committed("tiny", range(4), epoch, accuracy=[0.1 * epoch] * 4))
    assert list(server.runs.values()) == [{"zooforge_run": "a" * 32, "mlflow.runName": "tiny"}]
    assert [(step, value) for _, name, value, step in server.metrics if name == "test_accuracy/q0.5"] == [
        (epoch, pytest.approx(0.1 * epoch)) for epoch in range(4)
    ]


class FakeServer:
    """The part of MLflow's client that is used; MLflow itself is not among the locked packages."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, str]] = {}
        self.metrics: list[tuple[str, str, float, int]] = []

    def get_experiment_by_name(self, name: str) -> Any:
        return types.SimpleNamespace(experiment_id="1") if self.runs else None

    def create_experiment(self, name: str) -> str:
        return "1"

    def search_runs(self, experiments: list[str], text: str) -> list[Any]:
        wanted = text.split("'")[1]
        return [self._run(one) for one, tags in self.runs.items() if tags["zooforge_run"] == wanted]

    def create_run(self, experiment: str, tags: dict[str, str]) -> Any:
        self.runs[str(len(self.runs))] = tags
        return self._run(str(len(self.runs) - 1))

    def log_metric(self, run_id: str, key: str, value: float, timestamp: int, step: int) -> None:
        self.metrics.append((run_id, key, value, step))

    def set_terminated(self, run_id: str) -> None:
        assert run_id in self.runs

    def _run(self, run_id: str) -> Any:
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_id))


def test_trackers_are_off_by_default_and_unknown_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trackers_from({}) == []
    with pytest.raises(InputError, match="did you mean 'tensorboard'"):
        trackers_from({"ZOO_TRACKERS": "tensorbord:runs"})
    with pytest.raises(InputError, match="needs a place"):
        trackers_from({"ZOO_TRACKERS": "tensorboard"})
    with pytest.raises(InputError, match="MLFLOW_TRACKING_PASSWORD") as refused:
        trackers_from({"ZOO_TRACKERS": "mlflow:https://somebody:secret@tracking:5000"})
    assert "secret" not in str(refused.value)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError, match="pip install mlflow"):
        trackers_from({"ZOO_TRACKERS": "mlflow:runs"})
