"""Simulates eight hours of three runs and their machines, as scraped by Prometheus every two minutes.

The run of ``mnist-cnn-s-seed`` and its twins is live, that of ``usps-cnn-s-seed`` ended two hours ago.
"""

from collections.abc import Iterable, Iterator
from types import SimpleNamespace

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric

from tests.support.prometheus import History
from tests.support.simulated_runs import committed, started, totals
from zooforge.zoo_jobs.events import Problem, Spent, StageEnded
from zooforge.zoo_jobs.metrics.driver import RunMetrics
from zooforge.zoo_jobs.metrics.registry import families, samples
from zooforge.zoo_jobs.watching.totals import StoreTotals

HOURS = 8
STEP_SECONDS = 60
CLUSTER = {
    "ray_io_cluster": "mnist-cnn-s-seed-0a1b2c3d-1-x7k2p",
    "zooforge_io_zoo": "mnist-cnn-s-seed",
    "namespace": "zoos",
}
HEAD, WORKER = {"ip": "10.0.0.1", "IsHeadNode": "true"}, {"ip": "10.0.0.2", "IsHeadNode": "false"}
RUNS = (("mnist-cnn-s-seed", "train"), ("mnist-cnn-s-seed-vd", "sparsify"), ("usps-cnn-s-seed", "train"))
EPOCHS = {"mnist-cnn-s-seed": 200, "mnist-cnn-s-seed-vd": 200, "usps-cnn-s-seed": 89}
UNITS = [range(first, first + 32) for first in range(0, 128, 32)]


class Simulation:
    """The metrics of the runs; ``step`` simulates one minute of all of them, ending at Unix time ``now``."""

    def __init__(self, start: float) -> None:
        self.now = start
        self.registry = CollectorRegistry()
        self.metrics = RunMetrics(self.registry, clock=lambda: self.now, monotonic=lambda: self.now)
        self._random = np.random.default_rng(7)
        self._minute = 0
        for zoo, stage in RUNS:
            self.metrics.start_from(self._totals(zoo, stage))
            self.metrics(started(zoo, models=128, epochs=EPOCHS[zoo], stage=stage))

    def step(self) -> None:
        minute = self._minute = self._minute + 1
        self.now += STEP_SECONDS
        unit, epoch = UNITS[(minute - 1) % 4], (minute - 1) // 4
        accuracy = np.clip(0.92 - 0.82 * np.exp(-epoch / 20) + self._random.normal(0, 0.02, 32), 0, 1)
        faulty = {"nan": 1} if minute in (41, 90, 200) else {"inf": 1} if minute == 120 else {}
        self.metrics(
            committed("mnist-cnn-s-seed", unit, epoch, accuracy=accuracy, faulty=faulty, seconds=40 + minute % 7)
        )
        sparsity = np.clip(0.7 - 0.7 * np.exp(-epoch / 30) + self._random.normal(0, 0.03, 32), 0, 1)
        self.metrics(
            committed("mnist-cnn-s-seed-vd", unit, epoch, stage="sparsify", accuracy=accuracy * 0.97, sparsity=sparsity)
        )
        if minute <= 360:
            self.metrics(committed("usps-cnn-s-seed", unit, epoch, accuracy=accuracy * 0.9))
        if minute == 361:
            self.metrics(StageEnded("usps-cnn-s-seed", "train", "finished"))
        if minute % 45 == 0:
            self.metrics(Problem("mnist-cnn-s-seed", "train", "preempted", "a worker had to leave"))
        if minute % 30 == 0:
            self.metrics(Spent("mnist-cnn-s-seed", "train", store_retries=1, read_bytes=6_000_000))
        for zoo, stage in RUNS[:2]:
            self.metrics.start_from(self._totals(zoo, stage))

    def machines(self) -> Iterator[Metric]:
        """The metrics of Ray, DCGM, the kubelet and Kueue in a cluster with a GPU, under their documented names."""
        minute = self._minute
        busy = 70 + 20 * np.sin(minute / 9)
        nodes = [HEAD, WORKER]
        yield _gauge("ray_node_mem_used", nodes, [3e9 + 1e6 * minute, 6e9])
        yield _gauge("ray_node_mem_total", nodes, [8e9, 16e9])
        yield _gauge("ray_node_cpu_utilization", nodes, [20, busy])
        yield _gauge("ray_node_disk_free", nodes, [60e9, 80e9 - 1e6 * minute])
        yield _gauge("ray_node_disk_usage", nodes, [40e9, 20e9 + 1e6 * minute])
        gpus = [{**WORKER, "GpuIndex": "0", "GpuDeviceName": "NVIDIA H100"}]
        yield _gauge("ray_node_gpus_utilization", gpus, [busy])
        yield _gauge("ray_node_gram_used", gpus, [21_000])
        yield _gauge("ray_node_gram_available", gpus, [60_000])
        yield _gauge("ray_node_manager_unexpected_worker_failure_total", [{"ip": "10.0.0.2"}], [minute // 60])
        yield _gauge("autoscaler_active_nodes", [{"NodeType": "cpu"}], [2])
        yield _gauge("autoscaler_pending_nodes", [{"NodeType": "cpu"}], [minute % 90 < 10])
        yield _gauge("DCGM_FI_DEV_GPU_UTIL", [{"gpu": "0", "Hostname": "node-1"}], [busy + 2])
        volume = [{"persistentvolumeclaim": "zooforge-store"}]
        yield _gauge("kubelet_volume_stats_available_bytes", volume, [15e9 - 5e6 * minute])
        yield _gauge("kubelet_volume_stats_capacity_bytes", volume, [20e9])
        yield _gauge("kueue_pending_workloads", [{"cluster_queue": "zoos", "status": "active"}], [minute % 120 < 15])

    def store(self) -> list[Metric]:
        """The metrics that the exporter adds to those of the zoos."""
        source = SimpleNamespace(free_bytes=400e9 - 1e8 * self._minute, read_seconds=self.now - 7)
        return list(families([samples("process"), samples("store", source)]))

    def _totals(self, zoo: str, stage: str) -> StoreTotals:
        minutes = self._minute
        usage = {"pod_seconds": 120.0 * minutes, "committed_seconds": 96.0 * minutes, "dollars": 0.05 * minutes}
        usage |= {"lost_epochs": 32 * (minutes // 45), "read_bytes": 2e6 * minutes}
        budget = 40.0 if zoo == "mnist-cnn-s-seed" else None
        return totals(
            zoo,
            [0] * 128,
            num_epochs=EPOCHS[zoo],
            units=UNITS,
            usage=usage,
            stage=stage,
            samples=0,
            budget_dollars=budget,
        )


def history(now: float) -> tuple[History, Simulation]:
    """The past until ``now``, and the simulation, which can be continued."""
    past = History()
    simulation = Simulation(now - HOURS * 3600)
    while simulation.now < now - 1.5 * STEP_SECONDS:
        simulation.step()
        simulation.step()
        past.add(simulation.now, simulation.registry.collect(), pod="driver", namespace="zoos")
        zoos: Iterable[Metric] = [f for f in simulation.registry.collect() if f.name != "zooforge_build"]
        past.add(simulation.now, [*zoos, *simulation.store()], pod="exporter", namespace="zoos")
        past.add(simulation.now, simulation.machines(), **CLUSTER)
    return past, simulation


def _gauge(name: str, labels: list[dict[str, str]], values: Iterable[float]) -> Metric:
    family = GaugeMetricFamily(name, "", labels=list(labels[0]))
    for one, value in zip(labels, values, strict=True):
        family.add_metric(list(one.values()), float(value))
    return family
