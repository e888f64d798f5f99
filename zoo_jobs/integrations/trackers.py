"""Writes quantiles per epoch to TensorBoard and MLflow: one run per zoo, not one per model. Off by default."""

import importlib
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from zooforge.storage.stores.protocol import ObjectStore

from ..errors import InputError, unknown
from ..events import Event, PartCommitted, StageEnded, StageStarted
from ..spec.twins import Zoo
from ..watching.totals import QUANTILES, quantiles
from .background import Background

logger = logging.getLogger(__name__)

VARIABLE = "ZOO_TRACKERS"
CLOSE_SECONDS = 30.0


class Sink(Protocol):
    """A service that takes figures. Its methods are called from one thread, and may raise the classes in ``errors``."""

    errors: tuple[type[Exception], ...]

    def write(self, zoo: str, run: str, epoch: int, figures: Mapping[str, float]) -> None: ...

    def attach(self, zoo: str, run: str, folder: Path) -> None:
        """Add the files of ``folder``, such as the report, to the zoo's run."""
        ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files under ``folder``/<zoo>, with the report in a folder next to them, whose path TensorBoard shows."""

    errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._module = _module("tensorboardX", "tensorboard")
        self._writers: dict[str, Any] = {}

    def write(self, zoo: str, run: str, epoch: int, figures: Mapping[str, float]) -> None:
        writer = self._writer(zoo)
        for name, value in figures.items():
            writer.add_scalar(name, value, epoch)
        writer.flush()

    def attach(self, zoo: str, run: str, folder: Path) -> None:
        place = self._folder / zoo / "report"
        shutil.copytree(folder, place, dirs_exist_ok=True)
        self._writer(zoo).add_text("report", str((place / "index.html").absolute()))

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, zoo: str) -> Any:
        if zoo not in self._writers:
            self._writers[zoo] = self._module.SummaryWriter(str(self._folder / zoo))
        return self._writers[zoo]


class MLflow:
    """Runs in the experiment ``zooforge`` of a tracking server or folder. A zoo continues the run that it has."""

    def __init__(self, uri: str) -> None:
        if "@" in uri.partition("://")[2].partition("/")[0]:
            raise InputError(
                f"{VARIABLE}: the MLflow URI has a user name or a password in it; give them in "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
            )
        module = _module("mlflow", "mlflow")
        self.errors: tuple[type[Exception], ...] = (module.exceptions.MlflowException, OSError)
        self._client = module.MlflowClient(tracking_uri=uri)
        self._experiment = ""
        self._ids: dict[str, str] = {}

    def write(self, zoo: str, run: str, epoch: int, figures: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        for name, value in figures.items():
            self._client.log_metric(self._id(zoo, run), name, value, timestamp=now, step=epoch)

    def attach(self, zoo: str, run: str, folder: Path) -> None:
        self._client.log_artifacts(self._id(zoo, run), str(folder), "report")

    def close(self) -> None:
        for run_id in self._ids.values():
            self._client.set_terminated(run_id)

    def _id(self, zoo: str, run: str) -> str:
        if run not in self._ids:
            if not self._experiment:
                known = self._client.get_experiment_by_name("zooforge")
                self._experiment = known.experiment_id if known else self._client.create_experiment("zooforge")
            same = self._client.search_runs([self._experiment], f"tags.zooforge_run = '{run}'")
            tags = {"zooforge_run": run, "mlflow.runName": zoo}
            entry = same[0] if same else self._client.create_run(self._experiment, tags=tags)
            self._ids[run] = entry.info.run_id
        return self._ids[run]


@dataclass
class _Epoch:
    """The values of one epoch of a zoo, one array per task."""

    num_models: int = 0
    accuracy: list[NDArray[np.float64]] = field(default_factory=list)
    sparsity: list[NDArray[np.float64]] = field(default_factory=list)
    num_faulty: int = 0

    def figures(self) -> dict[str, float]:
        figures: dict[str, float] = {"models": float(self.num_models), "faulty": float(self.num_faulty)}
        for name, parts in (("test_accuracy", self.accuracy), ("sparsity", self.sparsity)):
            values = np.concatenate(parts) if parts else np.zeros(0)
            if len(values):
                figures |= {f"{name}/q{q}": v for q, v in zip(QUANTILES, quantiles(values), strict=True)}
        return figures


class Tracker:
    """An observer that gives the quantiles of an epoch to a sink when every model of the request has reached it.

    Epochs that are incomplete when the stage ends are written too; the figure ``models`` says how many models they
    have. The first failure of a sink is logged, and the sink is not called again; a run never waits for it.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._background = Background("tracker")
        self._failed = False
        self._runs: dict[str, tuple[str, int]] = {}  # run id, requested models
        self._epochs: dict[str, dict[int, _Epoch]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for zoo in list(self._epochs):
            self._finish(zoo)
        self._submit(self._sink.close)
        if not self._background.close(CLOSE_SECONDS):
            logger.warning("a tracker is too slow; its last figures are lost")

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted():
                self._runs[event.zoo] = event.run, event.models
            case PartCommitted() if event.zoo in self._runs:
                self._add(event)
            case StageEnded():
                self._finish(event.zoo)
            case _:
                pass

    def attach(self, zoo: str, run: str, folder: Path) -> None:
        """Give the files of ``folder`` to the sink. The caller may remove the folder afterwards."""
        done = threading.Event()

        def attach() -> None:
            try:
                self._sink.attach(zoo, run, folder)
            finally:
                done.set()

        self._submit(attach)
        if not self._failed and not done.wait(CLOSE_SECONDS):
            logger.warning("a tracker is too slow; it does not have the report", extra={"zoo": zoo})

    def _add(self, event: PartCommitted) -> None:
        epochs = self._epochs.setdefault(event.zoo, {})
        epoch = epochs.setdefault(event.epochs[-1], _Epoch())
        epoch.num_models += len(event.models)
        epoch.num_faulty += sum(event.num_faulty.values())
        epoch.accuracy.append(event.test_accuracy)
        epoch.sparsity.append(event.sparsity)
        if epoch.num_models >= self._runs[event.zoo][1]:
            self._write(event.zoo, event.epochs[-1], epochs.pop(event.epochs[-1]))

    def _finish(self, zoo: str) -> None:
        for number, epoch in sorted(self._epochs.pop(zoo, {}).items()):
            self._write(zoo, number, epoch)

    def _write(self, zoo: str, number: int, epoch: _Epoch) -> None:
        run, figures = self._runs[zoo][0], epoch.figures()
        self._submit(lambda: self._sink.write(zoo, run, number, figures))

    def _submit(self, call: Callable[[], None]) -> None:
        self._background.submit(lambda: self._try(call))

    def _try(self, call: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            call()
        except self._sink.errors as error:
            self._failed = True
            kind = type(self._sink).__name__
            logger.warning(
                "a tracker failed and is not used any more", extra={"tracker": kind, "error": str(error)[:200]}
            )


def attach_report(trackers: Sequence[Tracker], store: ObjectStore, url: str, zoo: Zoo) -> None:
    """Write the report of a published zoo and give it to every tracker; do nothing without trackers.

    Args:
        url: of ``store``, as the caller named it.
    """
    if not trackers:
        return
    from ..report.page import write_report
    from ..report.read import read_accounts, read_contents

    with tempfile.TemporaryDirectory(prefix="zooforge-report-") as folder:
        write_report(read_accounts(store, read_contents(store, url, zoo.name)), Path(folder))
        for tracker in trackers:
            tracker.attach(zoo.name, zoo.run_id, Path(folder))


def trackers_from(environment: Mapping[str, str]) -> list[Tracker]:
    """The trackers that ``ZOO_TRACKERS`` names: ``tensorboard:FOLDER``, ``mlflow:URI``, separated by commas.

    Raises:
        InputError: anything else, or the package of a tracker is not installed.
    """
    trackers = []
    for text in filter(None, (part.strip() for part in environment.get(VARIABLE, "").split(","))):
        kind, colon, place = text.partition(":")
        if kind not in ("tensorboard", "mlflow"):
            raise unknown(f"tracker in {VARIABLE}", kind, ("tensorboard", "mlflow"))
        if not colon or not place:
            raise InputError(f"{VARIABLE}: {kind} needs a place, tensorboard:FOLDER or mlflow:URI")
        trackers.append(Tracker(TensorBoard(Path(place)) if kind == "tensorboard" else MLflow(place)))
    return trackers


def _module(name: str, kind: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"{VARIABLE}: {kind} needs the package {name}, `pip install {name}` adds it") from error
