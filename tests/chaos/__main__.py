"""Disturb runs at random and compare what they publish: ``python -m tests.chaos [--minutes 20] [--seed N]``.

Each round trains a small zoo and its twins into a new store on an S3 server. Meanwhile drivers and workers are killed,
frozen or told to leave, second drivers start, and the server is killed. The run must finish nevertheless, without a
repair of the store, and publish the same manifests, byte for byte, as an undisturbed run. If a round fails, its store
and seed are kept and the exit status is 1. At the same time ``tests.storage.simulation`` runs as many schedules of the
store protocol as the time allows.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.chaos.stage import Stage, workers
from tests.support.acceptance_specs import MODELS, NUM_TWIN_EPOCHS, write
from tests.support.command import Command, Running, done, manifest, num_records

NUM_EPOCHS = 30
ZOOS = ("small", "small-vd")
ROUND_SECONDS = 900.0
BUSY = "Ray does not start on this machine"  # the machine is too busy; this is no fault of the run
NO_STORE = ("no answer at", "the server answers 5")  # a driver that starts while the server is down gives up soon
KINDS = ("kill worker", "kill driver", "leave", "freeze worker", "freeze driver", "second driver", "kill server")


class Disturbed(Exception):
    """A round whose end differs from that of an undisturbed run."""


class Round:
    """One run, which is started again until it is finished."""

    def __init__(self, stage: Stage, store: str, spec: Path, random: Random, without_ray: bool) -> None:
        self.stage, self.store, self.random, self.without_ray = stage, store, random, without_ray
        self.arguments = ("run", str(spec), "--models", MODELS, "--store", store, "--no-metrics")
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        """Disturb the run until it finishes. Raises Disturbed if it fails or does not finish."""
        deadline = time.monotonic() + ROUND_SECONDS
        while True:
            with contextlib.ExitStack() as stack:
                drivers = [stack.enter_context(self._driver())]
                self._disturb(drivers, stack, deadline)
                ends = [driver.wait(max(1.0, deadline - time.monotonic())) for driver in drivers]
            if any(end.status == 0 for end in ends):
                return
            for end in ends:
                asked_before_it_began = end.status == -signal.SIGTERM and not end.err
                without_server = (
                    self.counts["kill server"] > 0
                    and end.err.startswith("zoo: s3://")
                    and any(words in end.err for words in NO_STORE)
                )
                excused = BUSY in end.err or asked_before_it_began or without_server
                if end.status not in (75, -signal.SIGKILL) and not excused:
                    raise Disturbed(f"a driver ended with {end.status}: {end.err[-1500:]}")

    def _driver(self, *options: str) -> Running:
        """Start a driver, with Ray or in one process. Both kinds use the same store."""
        ray = "none" if self.without_ray or self.random.random() < 0.5 else "local"
        self.counts["driver with Ray" if ray == "local" else "driver without Ray"] += 1
        return self.stage.zoo.start(*self.arguments, "--ray", ray, *options)

    def _disturb(self, drivers: list[Running], stack: contextlib.ExitStack, deadline: float) -> None:
        """Wait until a driver has ended by itself, or end it."""
        while all(driver.process.poll() is None for driver in drivers):
            if time.monotonic() > deadline:
                raise Disturbed(f"not at its end after {ROUND_SECONDS:g} s, {num_records(self.store)} records")
            pause = time.monotonic() + self.random.uniform(0.5, 12.0)
            while time.monotonic() < pause and all(driver.process.poll() is None for driver in drivers):
                time.sleep(0.1)
            victim = self.random.choice(drivers)
            kind = self.random.choice(KINDS)
            if victim.process.poll() is None and self._one(kind, victim, drivers, stack):
                self.counts[kind] += 1

    def _one(self, kind: str, victim: Running, drivers: list[Running], stack: contextlib.ExitStack) -> bool:
        """Disturb one process. Returns whether there was one."""
        slots = workers(victim.children())
        match kind:
            case "kill worker" if slots:
                _signal(self.random.choice(slots), signal.SIGKILL)
            case "freeze worker" if slots:
                self._freeze(self.random.choice(slots))
            case "freeze driver":
                self._freeze(victim.process.pid)
            case "kill driver":
                victim.kill()
            case "leave":
                victim.terminate()
            case "second driver" if len(drivers) == 1:
                drivers.append(stack.enter_context(self._driver("--slots", "1")))
            case "kill server":
                self.stage.kill_server(self.random.uniform(0.0, 10.0))
            case _:
                return False
        return True

    def _freeze(self, pid: int) -> None:
        _signal(pid, signal.SIGSTOP)
        time.sleep(self.random.uniform(1.0, 8.0))
        _signal(pid, signal.SIGCONT)

    def check(self, quiet: dict[str, bytes]) -> None:
        """Raises Disturbed unless the store equals that of an undisturbed run."""
        for name, expected in quiet.items():
            if manifest(self.store, name) != expected:
                raise Disturbed(f"the manifest of {name} is not that of an undisturbed run")
            self._zoo("store", "verify", name)
        again = self._zoo(*self.arguments[:4], "--ray", "none", "--no-metrics")
        if again.count("(nothing new)") != len(quiet):
            raise Disturbed(f"a further run wrote new objects: {again}")
        for row in json.loads(self._zoo("status", *quiet, "--json")):
            if row["state"] != "finished" or row["done"] != row["total"]:
                raise Disturbed(f"status of {row['zoo']} says {row['state']}, {row['done']} of {row['total']} states")

    def _zoo(self, *arguments: str) -> str:
        ended = self.stage.zoo(*arguments, "--store", self.store, deadline_seconds=ROUND_SECONDS)
        if ended.status:
            raise Disturbed(f"zoo {' '.join(arguments)} ends with {ended.status}: {ended.err[-500:]}")
        return ended.out


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def quiet_manifests(zoo: Command, spec: Path, store: Path) -> dict[str, bytes]:
    """The manifests of an undisturbed run in one process."""
    options = ("--models", MODELS, "--ray", "none", "--no-metrics")
    done(zoo("run", spec, *options, "--store", store, deadline_seconds=ROUND_SECONDS))
    return {name: manifest(store, name) for name in ZOOS}


class Simulation:
    """A process at low priority that runs schedules of the store protocol until the time is over."""

    def __init__(self, minutes: float, seed: int) -> None:
        options = f"--minutes {minutes} --seed {seed}".split()
        command = ["nice", sys.executable, "-m", "tests.storage.simulation", *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def result(self) -> str:
        """The last line of its output: the number of schedules, or the schedule that broke a promise."""
        return self._process.communicate(timeout=ROUND_SECONDS)[0].strip()

    @property
    def failed(self) -> bool:
        return self._process.returncode != 0

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=20.0, help="a round that has begun is finished")
    parser.add_argument("--without-ray", action="store_true", help="every driver in one process, as under Slurm")
    parser.add_argument("--seed", type=int, default=None, help="default: drawn, and printed")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else Random().randrange(10**6)
    until = time.monotonic() + options.minutes * 60
    folder = Path(tempfile.mkdtemp(prefix="zoo-chaos-"))
    stage = Stage(folder)
    twins = {"method": "variational-dropout", "num_epochs": NUM_TWIN_EPOCHS}
    spec = write(folder, num_epochs=NUM_EPOCHS, train_eval_epochs=[0, NUM_EPOCHS], sparsify=twins)
    total: Counter[str] = Counter()
    simulation = Simulation(options.minutes, seed)
    try:
        quiet = quiet_manifests(stage.zoo, spec, folder / "quiet")
        number = 0
        while number == 0 or time.monotonic() < until:
            began, random = time.monotonic(), Random(f"{seed} {number}")
            one = Round(stage, stage.store(f"round-{number}"), spec, random, options.without_ray)
            try:
                one.run()
                one.check(quiet)
            except (Disturbed, AssertionError) as error:
                print(f"round {number}, --seed {seed}: {error}\nkept: {folder}, store {one.store}", flush=True)
                return 1
            total += one.counts
            said = ", ".join(f"{count} x {kind}" for kind, count in sorted(one.counts.items()))
            print(f"round {number}: as a quiet run, {time.monotonic() - began:.0f} s; {said}", flush=True)
            number += 1
        simulated = simulation.result()
        print(simulated, flush=True)
        if simulation.failed:
            return 1
    finally:
        simulation.close()
        stage.close()
    shutil.rmtree(folder)
    print(f"{number} rounds, --seed {seed}: {dict(sorted(total.items()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
