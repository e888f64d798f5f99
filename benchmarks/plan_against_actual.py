"""Measures the error of `zoo plan`: times runs that are planned for five minutes on this machine.

    PYTHONPATH=. python benchmarks/plan_against_actual.py [--minutes 5] [--slots 2] [--only lanes-train]

Each run trains as many models as the plan says fit the time, into a directory, with Ray. Beside the wall time, which
neighbours on the machine make longer, stands the CPU time of the workers against the slot-seconds of the plan, which
they change less; the load average says how busy the machine was. The share of the driver's own process is printed
too. Last result: docs/metrics.md.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.planning.estimate import slot_seconds, stage_seconds
from zooforge.zoo_jobs.planning.pricing import rate_here
from zooforge.zoo_jobs.planning.units import Request, request, tasks, work_units
from zooforge.zoo_jobs.spec.overrides import with_overrides
from zooforge.zoo_jobs.spec.twins import Zoo, twins_of

ZOO = Path(sys.executable).parent / "zoo"
TICKS = os.sysconf("SC_CLK_TCK")
SETTINGS = (
    "activation=tanh", "dropout_ratio=0.0", "initializer=kaiming_uniform", "optimizer=adam",
    "learning_rate=[0.001, 0.0001]", "weight_decay=0.001", "seeds=1:1025",
)  # fmt: skip
RUNS = {  # engine, twins, epochs
    "lanes-train": ("lanes", False, 10),
    "lanes-twins": ("lanes", True, 10),
    "sequential-train": ("sequential", False, 2),
}


def fitting(zoo: Zoo, engine: str, epochs: int, slots: int, seconds: float) -> tuple[Request, float, float]:
    """The largest request of ``epochs`` that the plan says takes ``seconds``; its seconds and slot-seconds."""
    _, rate = rate_here(zoo, engine, os.environ)
    assert rate is not None
    step = 16 * slots if engine == "lanes" else slots
    best = None
    for models in range(step, 2048, step):
        wanted = request(zoo, f"0:{models}", epochs)
        work = tasks(work_units(zoo), wanted, lambda model: 0, slots=slots)
        planned = stage_seconds(zoo, rate, work, wanted.last_part, slots)
        if best is not None and planned > seconds:
            break
        used = sum(slot_seconds(zoo, rate, task.models, range(epochs + 1)) for task in work)
        best = wanted, planned, used
    assert best is not None
    return best


class Watched:
    """CPU seconds of a command's own process and of the Ray workers that work for it, read while they live."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.driver, self._workers = 0.0, dict[int, float]()
        self._process = process
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def workers(self) -> float:
        return sum(self._workers.values())

    def _watch(self) -> None:
        while self._process.poll() is None:
            self.driver = _cpu_seconds(self._process.pid) or self.driver
            for pid in _session_workers(self._process.pid):
                self._workers[pid] = _cpu_seconds(pid) or self._workers.get(pid, 0.0)
            time.sleep(0.5)


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def _session_workers(pid: int) -> list[int]:
    """Ray's actors below ``pid``."""
    lines = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in lines.splitlines()]
    below, processes = {pid}, []
    for _ in range(4):
        below |= {int(row[0]) for row in rows if int(row[1]) in below}
    for row in rows:
        if int(row[0]) in below and len(row) > 2 and re.match(r"ray::_?\w*Worker", row[2]):
            processes.append(int(row[0]))
    return processes


def run(name: str, minutes: float, slots: int, store: Path) -> None:
    engine, twins, epochs = RUNS[name]
    zoo = with_overrides(entries.load("mnist5k-cnn-s"), SETTINGS, name="planned")
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    common = [*settings, "--name", "planned", "--store", str(store), "--slots", str(slots), "--quiet", "--ray", "local"]
    grown: Zoo = twins_of(zoo, source_epoch=0) if twins else zoo
    wanted, planned, used = fitting(grown, engine, epochs, slots, 60 * minutes)
    models = f"{wanted.models.start}:{wanted.models.stop}"
    arguments = ["train", "mnist5k-cnn-s", "--models", models, "--epochs", str(epochs), "--engine", engine, *common]
    if twins:
        before = ["train", "mnist5k-cnn-s", "--models", models, "--epochs", "0", "--engine", engine, *common]
        subprocess.run([ZOO, *before], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        arguments[0] = "sparsify"
        arguments[5:6] = ["0", "--twin-epochs", str(epochs)]
    begun = time.monotonic()
    with subprocess.Popen([ZOO, *arguments], stderr=subprocess.PIPE) as process:
        watched = Watched(process)
        said = process.communicate()[1].decode()
    wall, load = time.monotonic() - begun, os.getloadavg()[1]
    assert process.returncode == 0, said
    print(
        f"{name}: {len(wanted.models)} models, {epochs} epochs, {slots} slots: planned {planned:.0f} s, "
        f"took {wall:.0f} s ({wall / planned - 1:+.0%}) at load {load:.1f}; planned {used:.0f} slot-seconds, "
        f"workers' CPU {watched.workers:.0f} s ({watched.workers / used - 1:+.0%}); "
        f"driver's CPU {watched.driver:.1f} s, {watched.driver / watched.workers:.1%} of the workers'; "
        f"{said.strip().splitlines()[-1]}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--only", choices=RUNS, action="append")
    arguments = parser.parse_args()
    for name in arguments.only or RUNS:
        with tempfile.TemporaryDirectory() as folder:
            run(name, arguments.minutes, arguments.slots, Path(folder) / "store")


if __name__ == "__main__":
    main()
