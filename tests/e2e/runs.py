"""Steps with undisturbed runs: one that finishes, one that is stopped, one with a cap, one that always fails."""

from __future__ import annotations

import json
import time

from tests.e2e.faults import remove
from tests.e2e.quiet import QuietRuns
from tests.e2e.releases import researcher
from tests.e2e.surroundings import (
    PYTHON,
    SMALL,
    ZOO,
    catalogue,
    deploy,
    done,
    expect,
    in_store,
    jobs,
    known_zoos,
    kubectl,
    pods,
    sh,
    store,
    submit,
    wait,
    zoo_cluster,
)

QUIET_SECONDS = 120.0


def run(quiet: QuietRuns) -> None:
    """A run does everything from train to verify. Submitted twice it is one run. Its manifests equal a local run's.

    Two minutes after its end nothing of it runs.
    """
    submitted = zoo_cluster("submit", ZOO, *SMALL, "--yes")
    twice = zoo_cluster("submit", ZOO, *SMALL, "--yes")
    expect("was submitted already" in twice, f"{submitted.strip()}; twice is one run")
    another = zoo_cluster("submit", ZOO, "--epochs", "9", "--yes", check=False)
    expect(another.startswith("1 "), f"another request is refused: {another[2:].strip()}")
    name = submitted.split()[-1]
    wait(600, f"{name} ended", lambda: jobs()[name]["state"] == "ended")
    ended = time.monotonic()
    expect("8 equal" in zoo_cluster("logs", ZOO, check=False), "the driver's log is the pod's")
    quiet.same(SMALL)
    time.sleep(max(0.0, QUIET_SECONDS - (time.monotonic() - ended)))
    nothing_runs()


def nothing_runs() -> None:
    """Check that the run has no pod, even one that terminates, and no Ray cluster, and was not submitted again."""
    left = kubectl("get", "pods,rayclusters", "-l", f"zooforge.io/zoo={ZOO}", "-o", "name").split()
    left += [row["job"] for row in jobs().values() if row["state"] not in ("ended", "failed")]
    expect(
        not left, f"{QUIET_SECONDS:.0f} s after the end of the run these are left of it: {', '.join(left) or 'none'}"
    )


def stop() -> None:
    """A user with only the submitter's Role stops a run. It stays stopped, and continues when submitted again."""
    options = ["--models", "0:96", "--epochs", "40", "--no-twins"]
    before = done()["done"] if ZOO in known_zoos() else 0
    with researcher() as person:
        name = submit(ZOO, *options, env=person)
        wait(300, "the run commits", lambda: done()["done"] > before + 20)
        wait(120, "the supervisor made a budget for its head", lambda: _head_is_kept(name))
        expect(name in zoo_cluster("status", env=person), "the submitter's Role is enough for submit, status")
        expect("model-epochs" in zoo_cluster("logs", ZOO, env=person), "and logs")
        said = zoo_cluster("stop", ZOO, env=person)
        expect("is suspended" in said, f"and stop: {said.strip()}")
    wait(200, "its pods are gone", lambda: not pods(f"zooforge.io/zoo={ZOO}"))
    wait(60, "and so is the disruption budget", lambda: not kubectl("get", "pdb", "-o", "name"))
    seconds = 150  # longer than a driver's claim is valid, and than two intervals of the supervisor
    time.sleep(seconds)
    awake = [row["job"] for row in jobs().values() if row["state"] in ("running", "starting")]
    expect(not awake and not pods(f"zooforge.io/zoo={ZOO}"), f"it stays stopped for {seconds} s")
    # A head may use its whole grace period; after it the claim of its driver still has to expire.
    mark = wait(300, "the store says that it is stopped", lambda: (state := done())["state"] == "stopped" and state)
    expect(mark["done"] < mark["total"], f"{mark['reason']}: {mark['done']} of {mark['total']} model-epochs")
    again = submit(ZOO, *options)
    expect(again != name, f"{again} goes on")
    wait(300, "it commits again", lambda: done()["done"] > mark["done"])
    wait(600, "it ended", lambda: jobs()[again]["state"] == "ended")
    expect(done()["state"] == "finished", "finished")


def queued() -> None:
    """A run is suspended as Kueue does it, and the release gets a worker group; admitted, the run finishes."""
    zoo, options = "digits8-cnn-s", ("--models", "0:8", "--epochs", "2", "--no-twins")
    fixed = ("queue.name=e2e", "autoscaler.enabled=false", "workerGroups.cpu.replicas=1")
    remove(zoo)
    deploy(*fixed)
    name = submit(zoo, *options)
    _suspend(name, True)
    selector = f"zooforge.io/zoo={zoo}"
    wait(200, "it is queued and has no pod", lambda: jobs()[name]["state"] == "queued" and not pods(selector))
    deploy(*fixed, "workerGroups.more.replicas=1")
    again = json.loads(zoo_cluster("submit", zoo, *options, "--yes", "--json"))
    expect(again == {"job": name, "made": False}, "the release has another worker group; submitted again it is one run")
    seconds = 75  # a look of the supervisor
    time.sleep(seconds)
    states = {row["job"]: row["state"] for row in jobs().values() if row["zoo"] == zoo}
    waits = states.pop(name) == "queued" and set(states.values()) <= {"ended", "failed"} and not pods(selector)
    expect(waits, f"it waits in the queue for {seconds} s")
    _suspend(name, False)
    wait(300, "admitted, it starts", lambda: pods(selector))
    groups: set[str] = set()

    def ended() -> bool:
        groups.update(pod["metadata"]["labels"].get("ray.io/group", "") for pod in pods(selector))
        return jobs()[name]["state"] == "ended"

    wait(400, "it ended", ended)
    expect(done(zoo)["state"] == "finished" and "more" not in groups, f"finished, with the groups {sorted(groups)}")
    deploy()


def _suspend(name: str, value: bool) -> None:
    """Set what Kueue sets."""
    kubectl("patch", "rayjob", name, "--type=merge", "-p", json.dumps({"spec": {"suspend": value}}))


def _head_is_kept(job: str) -> bool:
    """True if the head of a RayJob has a PodDisruptionBudget that allows no eviction."""
    ray = json.loads(kubectl("get", "rayjob", job, "-o", "json"))["status"]["rayClusterName"]
    status = json.loads(kubectl("get", "pdb", f"{ray}-head", "-o", "json"))["status"]
    return bool(status["expectedPods"] == 1 and status["disruptionsAllowed"] == 0)


def caps() -> None:
    """A cap of 0 dollars stops a run before its first unit."""
    options = ["--models", "0:8", "--epochs", "2", "--no-twins", "--max-dollars", "0", "--dollars-per-hour", "1"]
    zoo = "digits8-cnn-s"
    name = submit(zoo, *options)
    wait(300, "with a cap of 0 dollars the run ended", lambda: jobs()[name]["state"] == "ended")
    status = done(zoo)
    expect(status["state"] == "stopped" and status["done"] == 0, f"stopped with nothing trained: {status['reason']}")


def crash() -> None:
    """A run that always fails at its start has three attempts and never gets a worker."""
    zoo = "eurosat-cnn-s-seed" if "eurosat-cnn-s-seed" in catalogue() else next(iter(set(catalogue()) - {ZOO}))
    run_id = json.loads(sh(*PYTHON, "plan", zoo, "--json"))[0]["run"]
    with store() as env:
        in_store("s.put(a[0], b'no record')", f"runs/{run_id}/parts/0000000-00000000/00000.json", env=env)
    name = submit(zoo, "--models", "0:8", "--no-twins")
    workers: set[str] = set()

    def ended() -> bool:
        selector = f"zooforge.io/zoo={zoo},ray.io/node-type=worker"
        workers.update(pod["metadata"]["name"] for pod in pods(selector))
        return jobs()[name]["state"] == "ended"

    wait(600, "a run that always crashes at its start is given up", ended)
    expect(not workers, "no worker was started for it")
    code = "from zooforge.storage.runs.run_files import read_attempts, read_control; c = read_control(s, a[0])\n"
    code += "print(json.dumps([len(read_attempts(s, a[0])), c.wanted, c.reason]))"
    with store() as env:
        number, wanted, reason = json.loads(in_store(code, run_id, env=env))
    expect((number, wanted) == (3, "stopped"), f"{number} attempts, then {wanted}: {reason}")
