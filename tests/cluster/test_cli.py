"""`zoo cluster` with an API server over HTTP: the objects that it creates, its refusals and their messages."""

from __future__ import annotations

import base64
import json
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import CORE, RAY, RUN, config_data, pod_template, template
from tests.support.fake_api import FakeAPI
from zooforge.cluster import runs, selftest, zoo_command
from zooforge.cluster.client import connect
from zooforge.cluster.errors import ClusterError
from zooforge.cluster.spec import Release, RunRequest, Target

JOB = "mnist5k-cnn-s-4e261bdc-1"


def live(api: FakeAPI, **status: str) -> dict[str, Any]:
    """The submitted RayJob with the status that KubeRay gives it a moment later."""
    job = api.objects[f"/{RAY}/rayjobs/{JOB}"]
    job["status"] = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "rayClusterName": "rc", **status}
    return job


def test_submit_makes_one_rayjob(api: FakeAPI, zoo: Any) -> None:
    said = zoo("submit", "mnist5k-cnn-s", "--epochs", "2", "--yes")
    assert (said.status, said.out) == (0, f"submitted {JOB}\n")
    assert "2,560 models to epoch 50, 2.0 h on l4, $1.50, 2.00 GiB at the peak" in said.err
    assert "mnist5k-cnn-s-vd (run 4e261bdc): 2,560 models to epoch 25, 1.0 h on l4, $0.75" in said.err
    assert "together: 3.0 h on l4, $2.25, 3.00 GiB at the peak, 2.00 GiB in the end" in said.err
    assert "at most 3 cpu, 2 more workers" in said.err
    job = api.objects[f"/{RAY}/rayjobs/{JOB}"]
    asked = RunRequest.from_json(job["metadata"]["annotations"]["zooforge.io/request"])
    assert asked == RunRequest("mnist5k-cnn-s", RUN, epochs=2)
    assert api.writes == [("POST", f"/{RAY}/rayjobs")]


def test_submitting_for_a_single_writer_warns_of_losses_and_tells_the_driver(api: FakeAPI, zoo: Any) -> None:
    assert "not atomic" not in zoo("submit", "mnist5k-cnn-s", "--dry-run").err
    said = zoo("submit", "mnist5k-cnn-s", "--single-writer", "--yes")
    assert said.status == 0
    assert "two drivers could both win" in said.err and "start no other driver of this run" in said.err
    job = api.objects[f"/{RAY}/rayjobs/{JOB}"]
    asked = json.loads(job["metadata"]["annotations"]["zooforge.io/request"])
    assert asked == {"zoo": "mnist5k-cnn-s", "run": RUN, "single_writer": True}
    assert json.dumps(asked, sort_keys=True) in job["spec"]["entrypoint"]


def test_submit_without_twins_says_the_cost_of_one_stage(api: FakeAPI, zoo: Any) -> None:
    said = zoo("submit", "mnist5k-cnn-s", "--no-twins", "--yes")
    assert "-vd" not in said.err
    assert "together" not in said.err
    both = zoo("submit", "mnist5k-cnn-s", "--no-twins", "--twin-epochs", "3", "--yes")
    assert (both.status, len(both.err.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ("h200-141g", "2,560 models to epoch 50, 1.0 h on h200-141g, $1.50"),
        (
            "abacus",
            "unknown machine 'abacus'; accepted: l4, h200-141g; the time and the price below are those of l4",
        ),
    ],
)
def test_submit_prices_a_run_on_the_machine_of_the_workers(api: FakeAPI, zoo: Any, machine: str, said: str) -> None:
    data = config_data()
    job = yaml.safe_load(data["rayjob.yaml"])
    cluster = job["spec"]["rayClusterSpec"]
    head, first = (
        group["template"]["spec"]["containers"][0]
        for group in (cluster["headGroupSpec"], cluster["workerGroupSpecs"][0])
    )
    head["env"].append({"name": "ZOO_WORKERS_PER_GPU", "value": "2"})
    first["env"].append({"name": "ZOO_MACHINE", "value": machine})
    api.put(f"{CORE}/configmaps", "zooforge-runs", data={**data, "rayjob.yaml": yaml.safe_dump(job)})
    submitted = zoo("submit", "mnist5k-cnn-s", "--no-twins", "--yes")
    assert submitted.status == 0
    assert said in submitted.err


def test_the_same_request_twice_is_one_run(api: FakeAPI, zoo: Any) -> None:
    zoo("submit", "mnist5k-cnn-s", "--yes")
    live(api)
    said = zoo("submit", "mnist5k-cnn-s", "--yes", "--json")
    assert said.status == 0
    assert json.loads(said.out) == {"job": JOB, "made": False}
    assert len(api.writes) == 1


def test_another_request_is_refused_while_one_lives(api: FakeAPI, zoo: Any) -> None:
    zoo("submit", "mnist5k-cnn-s", "--yes")
    live(api)
    said = zoo("submit", "mnist5k-cnn-s", "--epochs", "3", "--yes")
    assert said.status == 1
    assert f"{JOB} is live with another request" in said.err
    assert "zoo cluster stop mnist5k-cnn-s" in said.err


def test_after_the_end_the_next_submission_has_the_next_number(api: FakeAPI, zoo: Any) -> None:
    zoo("submit", "mnist5k-cnn-s", "--yes")
    live(api, jobDeploymentStatus="Complete")
    assert zoo("submit", "mnist5k-cnn-s", "--yes").out == "submitted mnist5k-cnn-s-4e261bdc-2\n"


def test_a_dry_run_prints_the_rayjob_and_makes_nothing(api: FakeAPI, zoo: Any) -> None:
    said = zoo("submit", "mnist5k-cnn-s", "--dry-run", "--max-workers", "1")
    job = yaml.safe_load(said.out)
    assert job["metadata"]["name"] == JOB
    assert [group["maxReplicas"] for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]] == [1, 0]
    assert api.writes == []


def test_without_a_terminal_the_option_yes_is_required(api: FakeAPI, zoo: Any) -> None:
    said = zoo("submit", "mnist5k-cnn-s")
    assert said.status == 2
    assert "give --yes" in said.err
    assert api.writes == []


def test_a_spec_of_ones_own_travels_with_the_request_without_paths_of_this_machine(
    api: FakeAPI, zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "my-zoo.yaml"
    path.write_text("name: my-zoo\ndataset: {npz: ./mine.npz}\n")
    said = {("show", str(path), "--yaml"): "name: my-zoo\n"}
    monkeypatch.setattr(zoo_command, "run", lambda arguments: said[tuple(arguments)])
    assert zoo("submit", str(path), "--yes").status == 0
    (job,) = api.collection(f"/{RAY}/rayjobs")
    assert json.loads(job["metadata"]["annotations"]["zooforge.io/request"])["spec"] == "name: my-zoo\n"


def test_code_runs_here_and_there_only_if_the_submitter_allows_it(
    api: FakeAPI, zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    plans: list[list[str]] = []
    planned = zoo_command.plan
    monkeypatch.setattr(zoo_command, "run", lambda arguments: ran.append(list(arguments)) or "name: my-zoo\n")
    monkeypatch.setattr(zoo_command, "plan", lambda name, options: plans.append(options) or planned(name, options))
    for number, options in enumerate(([], ["--allow-code"])):
        path = tmp_path / f"my-zoo-{number}.yaml"
        path.write_text("name: my-zoo\n")
        assert zoo("submit", str(path), "--yes", *options).status == 0
        assert (plans[-1].count("--allow-code"), ran[-1].count("--allow-code")) == (number, number)
    jobs = api.collection(f"/{RAY}/rayjobs")
    requests = [json.loads(job["metadata"]["annotations"]["zooforge.io/request"]) for job in jobs]
    assert sorted(request.get("allow_code", False) for request in requests) == [False, True]


def test_stop_is_one_patch_and_the_run_stays_stopped(api: FakeAPI, zoo: Any) -> None:
    zoo("submit", "mnist5k-cnn-s", "--yes")
    job = live(api)
    said = zoo("stop", "mnist5k-cnn-s")
    assert said.status == 0
    assert job["spec"]["suspend"] is True
    assert "zooforge.io/stopped" in job["metadata"]["annotations"]
    assert [method for method, _ in api.writes] == ["POST", "PATCH"]
    assert "nothing to stop" in zoo("stop", "mnist5k-cnn-s").out


def test_stop_deletes_a_run_that_kueue_would_start_again(api: FakeAPI, zoo: Any) -> None:
    zoo("submit", "mnist5k-cnn-s", "--yes")
    live(api)["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "q"
    live(api, jobDeploymentStatus="Suspended")["spec"]["suspend"] = True
    assert "is deleted" in zoo("stop", "mnist5k-cnn-s").out
    assert api.collection(f"/{RAY}/rayjobs") == []


def test_a_release_is_upgraded_while_its_run_is_queued(api: FakeAPI, zoo: Any) -> None:
    def upgrade(*groups: str) -> None:
        made = template()
        made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "q"
        spec = made["spec"]["rayClusterSpec"]
        spec["workerGroupSpecs"] = [group for group in spec["workerGroupSpecs"] if group["groupName"] in groups]
        data = {**config_data(), "rayjob.yaml": yaml.safe_dump(made)}
        api.put(f"{CORE}/configmaps", "zooforge-runs", data=data)

    def groups(job: dict[str, Any]) -> list[str]:
        return [group["groupName"] for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]]

    upgrade("cpu")
    zoo("submit", "mnist5k-cnn-s", "--yes")
    job = live(api, jobDeploymentStatus="Suspended")
    job["spec"]["suspend"] = True  # by Kueue's webhook
    upgrade("cpu", "more")
    assert f"{JOB}  queued" in zoo("status").out
    assert json.loads(zoo("submit", "mnist5k-cnn-s", "--yes", "--json").out) == {"job": JOB, "made": False}
    assert zoo("submit", "mnist5k-cnn-s", "--epochs", "3", "--yes").status == 1
    job["spec"]["suspend"], job["status"] = False, {"jobDeploymentStatus": "Running"}  # admitted
    assert f"{JOB}  running" in zoo("status").out
    assert groups(job) == ["cpu"]
    job["status"] = {"jobDeploymentStatus": "Complete"}
    zoo("submit", "mnist5k-cnn-s", "--yes")
    assert [groups(one) for one in api.collection(f"/{RAY}/rayjobs")] == [["cpu"], ["cpu", "more"]]
    assert len(api.writes) == 2


def test_status_shows_runs_progress_and_why_a_pod_waits(api: FakeAPI, zoo: Any) -> None:
    zoo("submit", "mnist5k-cnn-s", "--yes")
    live(api)
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    conditions = [{"type": "PodScheduled", "status": "False", "message": message}]
    labels = {"zooforge.io/release": "zooforge", "ray.io/group": "gpu"}
    api.put(f"{CORE}/pods", "w", metadata={"labels": labels}, status={"phase": "Pending", "conditions": conditions})
    exporter = f"/{CORE}/services/zooforge-exporter:metrics/proxy/metrics"
    api.texts[exporter] = 'zooforge_run_state{zoo="mnist5k-cnn-s",state="live"} 1\n'
    said = zoo("status")
    assert f"{JOB}  running  RUNNING" in said.out
    assert "mnist5k-cnn-s: live" in said.out
    assert "no node offers enough of nvidia.com/gpu" in said.out
    shown = json.loads(zoo("status", "--json").out)
    assert shown["store"] == "s3://bucket/zoos"
    assert shown["runs"][0]["state"] == "running"


def test_status_says_why_a_run_waits_and_a_queued_run_causes_no_write_requests(api: FakeAPI, zoo: Any) -> None:
    zoo("submit", "mnist5k-cnn-s", "--yes")
    job = live(api)
    labels = {"zooforge.io/release": "zooforge"}
    ray = api.put(
        f"{RAY}/rayclusters", "rc", metadata={"labels": labels}, spec={"workerGroupSpecs": [{"maxReplicas": 60}]}
    )
    ray["status"] = {"desiredWorkerReplicas": 60, "readyWorkerReplicas": 3}
    assert f"{JOB} works with 3 workers and waits for 57 more" in zoo("status").out
    (wait,) = json.loads(zoo("status", "--json").out)["waits"]
    assert "continues with the workers that exist" in wait
    job["spec"]["suspend"], job["status"] = True, {}
    before = list(api.writes)
    for _ in range(3):
        assert "queued" in zoo("status").out
    assert api.writes == before


def test_logs_come_from_the_head_of_the_newest_run(api: FakeAPI, zoo: Any) -> None:
    zoo("submit", "mnist5k-cnn-s", "--yes")
    live(api)
    api.put(f"{CORE}/pods", "head", metadata={"labels": {"ray.io/cluster": "rc", "ray.io/node-type": "head"}})
    api.texts[f"/{CORE}/pods/head/log"] = "one\ntwo\n"
    assert zoo("logs").out == "one\ntwo\n"


def test_logs_of_a_run_without_pods_are_in_the_store(api: FakeAPI, zoo: Any) -> None:
    zoo("submit", "mnist5k-cnn-s", "--yes")
    live(api, jobDeploymentStatus="Complete")
    said = zoo("logs", "mnist5k-cnn-s")
    assert said.status == 1
    assert "zoo logs mnist5k-cnn-s --store s3://bucket/zoos" in said.err


def test_the_token_is_that_of_the_runs_own_cluster(api: FakeAPI, zoo: Any) -> None:
    zoo("submit", "mnist5k-cnn-s", "--yes")
    live(api)
    api.put(f"{RAY}/rayclusters", "rc", spec={"authOptions": {"mode": "token"}})
    api.put(f"{CORE}/secrets", "rc", data={"auth_token": base64.b64encode(b"t0ken").decode()})
    assert zoo("token").out == "t0ken\n"


def test_the_supervisor_submits_lost_runs_again_and_records_stopped_ones_in_the_store(
    api: FakeAPI, zoo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = RunRequest("mnist5k-cnn-s", RUN, epochs=2, single_writer=True)
    row = {"zoo": request.zoo, "run": RUN, "job": "j", "request": json.loads(request.to_json())}
    stops: list[list[str]] = []
    monkeypatch.setattr(zoo_command, "pending", lambda store, origin: [row] if origin == "c1/zoos/zooforge" else [])
    monkeypatch.setattr(zoo_command, "_unattended", lambda arguments: stops.append(arguments))
    assert f"submitted {JOB}" in zoo("supervise", "--store", "s3://b").out
    assert "nothing to do" in zoo("supervise", "--store", "s3://b").out
    zoo("stop", "mnist5k-cnn-s")
    zoo("supervise", "--store", "s3://b")
    (stop,) = stops
    assert (stop[:4], stop[-1]) == (["stop", "mnist5k-cnn-s", "--store", "s3://b"], "--single-writer")
    assert len(api.collection(f"/{RAY}/rayjobs")) == 1


def test_the_pod_that_checks_the_store_is_configured_like_the_head(api: FakeAPI) -> None:
    from zooforge.cluster.preflight import probe_pod

    spec = template()["spec"]["rayClusterSpec"]
    pod = probe_pod(spec, Target("zoos"), "probe")
    assert pod["spec"]["containers"][0]["args"][-2:] == ["s3://bucket/zoos", "--versions"]
    assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["tmp"]
    assert pod["spec"]["serviceAccountName"] == pod_template({})["spec"]["serviceAccountName"]


def refuse_nothing(api: FakeAPI) -> None:
    pass


def without_kubeconfig(api: FakeAPI) -> None:
    import os

    os.environ["KUBECONFIG"] = "/does/not/exist"


def unreachable(api: FakeAPI) -> None:
    import os

    path = Path(os.environ["KUBECONFIG"])
    path.write_text(path.read_text().replace(api.address, "http://127.0.0.1:9"))


def without_crds(api: FakeAPI) -> None:
    api.refuse["rayjobs"] = 404


def without_rights(api: FakeAPI) -> None:
    api.refuse["rayjobs"] = 403


def without_release(api: FakeAPI) -> None:
    del api.objects[f"/{CORE}/configmaps/zooforge-runs"]


BAD = {
    "no kubeconfig": (without_kubeconfig, ["status"], "set KUBECONFIG"),
    "no such context": (refuse_nothing, ["status", "--context", "nope"], "context 'nope' is not in it"),
    "API server down": (unreachable, ["status"], "does not answer"),
    "no CRDs": (without_crds, ["submit", "mnist5k-cnn-s", "--yes"], "zoo cluster install-operator"),
    "no rights": (without_rights, ["submit", "mnist5k-cnn-s", "--yes"], "ask for the submitter Role"),
    "no release": (without_release, ["submit", "mnist5k-cnn-s", "--yes"], "install it with `zoo cluster deploy`"),
    "unknown zoo": (refuse_nothing, ["submit", "mnist5k-cnn", "--yes"], "did you mean 'mnist5k-cnn-s'"),
    "long name": (refuse_nothing, ["submit", f"{'a' * 35}.yaml", "--yes"], "give the spec a shorter name"),
    "nothing submitted": (refuse_nothing, ["logs"], "nothing was submitted here yet"),
    "run of another name": (refuse_nothing, ["stop", "nope"], "submitted are: none"),
    "a typo in a value": (refuse_nothing, ["deploy", "--set", "storage.ulr=s3://b"], "did you mean 'url'"),
    "an odd image": (refuse_nothing, ["deploy", "--image", "x@latest"], "expected [REGISTRY/]REPOSITORY"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line_with_the_remedy_and_makes_nothing(
    what: str, api: FakeAPI, zoo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, arguments, words = BAD[what]
    import os

    monkeypatch.setenv("KUBECONFIG", os.environ["KUBECONFIG"])
    prepare(api)
    said = zoo(*arguments)
    assert said.status == 2
    assert words in said.err
    assert len(said.err.splitlines()) == 1
    assert "secret-token" not in said.err + said.out
    assert [write for write in api.writes if write[0] != "PATCH"] == []


def test_an_old_operator_is_named_and_gets_no_rayjob(api: FakeAPI, zoo: Any) -> None:
    api.unknown["rayjobs"] = "entrypoint"
    said = zoo("submit", "mnist5k-cnn-s", "--yes")
    words = "the cluster's KubeRay is too old: it knows no spec.entrypoint; `zoo cluster install-operator`"
    assert (said.status, words in said.err.splitlines()[-1]) == (2, True)
    assert api.writes == []


def test_the_supervisor_makes_one_budget_for_the_head_of_each_run_owned_by_its_cluster(
    api: FakeAPI, zoo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo_command, "pending", lambda store, origin: [])
    labels = {"zooforge.io/release": "zooforge", "zooforge.io/run": "4e261bdc"}
    for name in ("one", "two"):
        api.put(f"{RAY}/rayclusters", name, metadata={"labels": labels, "uid": f"u-{name}"})
    api.put(f"{RAY}/rayclusters", "going", metadata={"labels": labels, "uid": "u", "deletionTimestamp": "now"})
    api.put(f"{RAY}/rayclusters", "foreign", metadata={"labels": {}, "uid": "u"})
    assert "made PodDisruptionBudget one-head" in zoo("supervise", "--store", "s3://b").out
    assert "PodDisruptionBudget" not in zoo("supervise", "--store", "s3://b").out
    budgets = api.collection("/apis/policy/v1/namespaces/zoos/poddisruptionbudgets")
    assert [budget["metadata"]["name"] for budget in budgets] == ["one-head", "two-head"]
    assert budgets[0]["metadata"]["ownerReferences"][0] | {"apiVersion": ""} == {
        "apiVersion": "",
        "kind": "RayCluster",
        "name": "one",
        "uid": "u-one",
    }
    head = {"ray.io/cluster": "one", "ray.io/node-type": "head"}
    assert budgets[0]["spec"] == {"minAvailable": 1, "selector": {"matchLabels": head}}


def test_a_port_whose_host_has_no_address_is_not_taken_for_closed() -> None:
    with pytest.raises(ClusterError, match="so its port was not tried"):
        selftest.expect_closed("no-such-host.invalid:1")


def test_an_open_port_fails_and_a_closed_one_passes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ClusterError, match="it must not be"):
            selftest.expect_closed(f"127.0.0.1:{port}")
    assert "cannot be reached" in selftest.expect_closed(f"127.0.0.1:{port}")


def test_two_submitters_at_once_make_one_rayjob(api: FakeAPI, target: Target, release: Release) -> None:
    cluster, request = connect(), RunRequest("mnist5k-cnn-s", RUN)
    both = [runs.prepare(cluster, target, release, request) for _ in range(2)]
    made = [runs.create(cluster, target, job) for job in both if not isinstance(job, runs.Submitted)]
    assert [(one.name, one.made) for one in made] == [(JOB, True), (JOB, False)]
    assert len(api.collection(f"/{RAY}/rayjobs")) == 1


def test_a_leaked_cluster_is_named_by_status_and_removed_by_the_supervisor(
    api: FakeAPI, zoo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo_command, "pending", lambda store, origin: [])
    labels = {"zooforge.io/release": "zooforge", "ray.io/originated-from-cr-name": "gone-1"}
    made = {"labels": labels, "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    api.put(f"{RAY}/rayclusters", "left", metadata=made)
    assert "leaked: Ray cluster left, its RayJob gone-1 is gone" in zoo("status").out
    assert json.loads(zoo("status", "--json").out)["leaked"][0]["cluster"] == "left"
    assert "remove Ray cluster left" in zoo("supervise", "--store", "s3://b", "--dry-run").out
    assert len(api.collection(f"/{RAY}/rayclusters")) == 1
    zoo("supervise", "--store", "s3://b")
    assert api.collection(f"/{RAY}/rayclusters") == []


def test_a_worker_on_a_lost_node_is_named_by_status_and_removed_by_the_supervisor(
    api: FakeAPI, zoo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo_command, "pending", lambda store, origin: [])
    labels = {"zooforge.io/release": "zooforge", "ray.io/cluster": "rc", "ray.io/node-type": "worker"}
    deleted = {"labels": labels, "deletionTimestamp": "2026-01-01T00:00:00Z"}
    for name, metadata in (("lost", deleted), ("works", {"labels": labels})):
        api.put(f"{CORE}/pods", name, metadata=metadata, spec={"nodeName": "node2", "containers": []})
    assert "stuck: pod lost does not end, node node2 does not answer" in zoo("status").out
    assert json.loads(zoo("status", "--json").out)["stuck"] == [{"pod": "lost", "node": "node2"}]
    assert "remove pod lost" in zoo("supervise", "--store", "s3://b", "--dry-run").out
    assert len(api.collection(f"/{CORE}/pods")) == 2
    zoo("supervise", "--store", "s3://b")
    assert [pod["metadata"]["name"] for pod in api.collection(f"/{CORE}/pods")] == ["works"]
    assert api.forced == [f"/{CORE}/pods/lost"]
