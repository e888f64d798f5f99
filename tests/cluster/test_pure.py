"""Values, pods, progress, the supervisor's decisions: pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from zooforge.cluster import values_schema
from zooforge.cluster.errors import ClusterError, InputError
from zooforge.cluster.helm import failure
from zooforge.cluster.log_lines import readable
from zooforge.cluster.pods import explain, view
from zooforge.cluster.preflight import lacking
from zooforge.cluster.progress import parse, sentence
from zooforge.cluster.run_job import fill, submissions
from zooforge.cluster.spec import Release, RunRequest
from zooforge.cluster.store_pod import credentials
from zooforge.cluster.supervise import decide, failed_without_a_trace, leaks, never_begun, stuck
from zooforge.cluster.values import check, image_values, merge, parse_set
from zooforge.cluster.waiting import late, missing_workers

SCHEMA = json.loads((values_schema.CHART / "values.schema.json").read_text())
REQUEST = RunRequest("mnist5k-cnn-s", "4e261bdc3f742728126c3fc6c7922184", epochs=2)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"storge": {}}, "storge is no value of the chart; did you mean 'storage'"),
        ({"storage": {"urll": 1}}, "storage.urll is no value of the chart; did you mean 'url'"),
        ({"workerGroups": {"gpu": {"maxReplica": 1}}}, "workerGroups.gpu.maxReplica is .*'maxReplicas'"),
        ({"queue": {"xyzzy": 1}}, "known there: name"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_key(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check(values, SCHEMA)


def test_free_maps_take_any_key() -> None:
    check({"head": {"nodeSelector": {"a.b/c": "d"}}, "workerGroups": {"any": None}, "global": {"x": 1}}, SCHEMA)


def test_settings_are_checked_by_their_keys() -> None:
    tree = parse_set(["workerGroups.gpu.gpu.count=1", "head.nodeSelector.a\\.b/c=d", "image.pullSecrets[0]=x"])
    assert tree["head"] == {"nodeSelector": {"a.b/c": "d"}}
    assert tree["image"] == {"pullSecrets": "x"}
    check(tree, SCHEMA)
    with pytest.raises(InputError, match="expected KEY=VALUE"):
        parse_set(["mode"])


def test_later_layers_win_key_by_key() -> None:
    assert merge({"a": {"b": 1, "c": [1]}}, {"a": {"c": [2]}, "d": None}) == {"a": {"b": 1, "c": [2]}, "d": None}


@pytest.mark.parametrize(
    ("image", "registry", "repository", "tag", "digest"),
    [
        ("zooforge", "", "zooforge", "", ""),
        ("me/zooforge:dev", "", "me/zooforge", "dev", ""),
        ("localhost/zooforge:dev", "localhost", "zooforge", "dev", ""),
        ("registry.example.org:5000/a/b:1@sha256:00", "registry.example.org:5000", "a/b", "1", "sha256:00"),
    ],
)
def test_image_names_are_split_into_their_parts(
    image: str, registry: str, repository: str, tag: str, digest: str
) -> None:
    values = {"registry": registry, "repository": repository, "tag": tag, "digest": digest}
    assert image_values(image) == values


@pytest.mark.parametrize("image", ["", "zooforge@latest", "localhost/"])
def test_an_invalid_image_name_is_refused(image: str) -> None:
    with pytest.raises(InputError, match="expected \\[REGISTRY/\\]REPOSITORY"):
        image_values(image)


def test_errors_of_helm_become_one_line() -> None:
    own = (
        "Error: execution error at (zooforge/templates/runs.yaml:1:4): storage.url is empty: where?\n\nUse --debug flag"
    )
    assert str(failure(own)).startswith("storage.url is empty: where?")
    assert failure(own).exit_status == 2
    schema = "Error: values don't meet the specifications of the schema(s):\n- at '/mode': must be one of"
    assert failure(schema).exit_status == 2
    assert "\n" not in str(failure(schema))
    assert failure("Error: Kubernetes cluster unreachable").exit_status == 1


def pod(**status: Any) -> dict[str, Any]:
    labels = {"ray.io/node-type": "worker", "ray.io/group": "gpu", "zooforge.io/run": "4e261bdc"}
    return {"metadata": {"name": "p", "labels": labels}, "spec": {"nodeName": "n"}, "status": status}


def unscheduled(message: str) -> dict[str, Any]:
    return pod(phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": message}])


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return pod(phase="Pending", containerStatuses=[{"state": {"waiting": {"reason": reason, "message": message}}}])


KILLED = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (
            unscheduled("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
            "no node offers enough of nvidia.com/gpu",
        ),
        (unscheduled("0/1 nodes are available: 1 Insufficient cpu. preemption: ..."), "no node has enough cpu left"),
        (unscheduled("1 node(s) were unschedulable"), "a node is cordoned, or not ready"),
        (unscheduled("1 node(s) had untolerated taint {a: }"), "set the group's tolerations"),
        (unscheduled("1 node(s) didn't match Pod's node affinity/selector"), "check the group's nodeSelector"),
        (waiting("ImagePullBackOff", "pull access denied"), "check image.* and image.pullSecrets (pull access denied)"),
        (waiting("CreateContainerConfigError", 'secret "x" not found'), "is missing (secret"),
        (waiting("CrashLoopBackOff"), "`zoo cluster logs` shows why"),
        (pod(phase="Failed", reason="Evicted", message="disk"), "Evicted: disk"),
        (
            pod(phase="Failed", containerStatuses=[{"name": "ray-worker", "state": KILLED}]),
            "OOMKilled (137): ray-worker",
        ),
        (
            pod(phase="Running", containerStatuses=[{"name": "ray-worker", "ready": True, "lastState": KILLED}]),
            "ran out of memory and started again: raise the memory",
        ),
        (pod(phase="Running", containerStatuses=[{"ready": True, "restartCount": 2}]), ""),
    ],
)
def test_a_pod_that_does_not_run_says_why_and_what_to_do(shown: dict[str, Any], words: str) -> None:
    image_shown = view(shown)
    assert words in image_shown.reason
    assert bool(image_shown.reason) == bool(words)
    assert (image_shown.group, image_shown.run, image_shown.component) == ("gpu", "4e261bdc", "worker")


def test_a_failed_mount_is_explained_by_its_event() -> None:
    events = [
        {
            "involvedObject": {"name": "p"},
            "type": "Warning",
            "reason": "FailedMount",
            "message": 'secret "s" not found',
        },
        {"involvedObject": {"name": "other"}, "type": "Warning", "reason": "Other", "message": "no"},
    ]
    assert view(waiting("ContainerCreating"), events).reason == 'FailedMount: secret "s" not found'


def test_an_unknown_reason_is_shown_as_it_is() -> None:
    assert explain("something  new") == "something new"


def test_progress_is_read_from_the_exporters_page() -> None:
    page = """# HELP zooforge_models Models.
zooforge_models{zoo="a",state="done"} 30
zooforge_models{zoo="a",state="training"} 2.0
zooforge_run_state{zoo="a",state="live"} 1
zooforge_run_state{zoo="a",state="finished"} 0
zooforge_eta_seconds{zoo="a",quantile="0.1"} 60
zooforge_eta_seconds{zoo="a",quantile="0.9"} 120
zooforge_cost_dollars_total{zoo="a",outcome="committed"} 1.5
zooforge_build_info{version="1"} 1
"""
    (one,) = parse(page).values()
    assert (one.state, one.models, one.dollars) == ("live", {"done": 30, "training": 2}, {"committed": 1.5})
    assert sentence(one) == "a: live; models: 30 done, 2 training; ends in 1 to 2 min"


@pytest.mark.parametrize("page", ["zooforge_models{", "<html>", 'zooforge_models{zoo="a} 1'])
def test_a_page_without_metrics_is_refused_in_one_line(page: str) -> None:
    with pytest.raises(ClusterError, match="not in Prometheus' text format"):
        parse(page)


def test_the_resource_that_a_node_lacks_is_named() -> None:
    assert lacking({"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": 1}, {"cpu": "1500m", "memory": "2Gi"}) == [
        "cpu",
        "nvidia.com/gpu",
    ]


def pending() -> dict[str, Any]:
    return {"zoo": REQUEST.zoo, "run": REQUEST.run, "job": "j", "request": json.loads(REQUEST.to_json())}


def job(release: Release, status: str = "", stopped: bool = False) -> dict[str, Any]:
    made = fill(release, REQUEST, 1, "", "")
    made["status"] = {"jobDeploymentStatus": status}
    if stopped:
        made["metadata"]["annotations"]["zooforge.io/stopped"] = "now"
    return made


def test_a_run_whose_rayjob_is_gone_is_submitted_again_as_it_was() -> None:
    (action,) = decide([pending()], [], 0.0)
    assert (action.what, action.request) == ("submit", REQUEST)


@pytest.mark.parametrize("status", ["Failed", "Complete"])
def test_a_run_that_kuberay_gave_up_is_submitted_again(release: Release, status: str) -> None:
    (action,) = decide([pending()], submissions([job(release, status)]), 0.0)
    assert action.what == "submit"


@pytest.mark.parametrize("status", ["", "Initializing", "Running", "Retrying", "Suspended"])
def test_a_run_that_kuberay_still_has_is_left_to_it(release: Release, status: str) -> None:
    assert decide([pending()], submissions([job(release, status)]), 0.0) == []


SUBMITTED = "2026-11-24T10:00:00Z"


@pytest.mark.parametrize(
    ("status", "minutes", "words"),
    [
        ({"jobDeploymentStatus": "Initializing"}, 59, None),
        ({"jobDeploymentStatus": "Initializing"}, 61, "its pods are not ready"),
        ({}, 61, "its pods are not ready"),
        ({"jobDeploymentStatus": "Running", "jobStatus": "PENDING"}, 61, "Ray keeps its job PENDING"),
        ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, 6000, None),
        ({"jobDeploymentStatus": "Failed"}, 6000, None),
    ],
)
def test_a_job_whose_driver_has_not_begun_by_its_deadline_is_named(
    release: Release, status: dict[str, str], minutes: int, words: str | None
) -> None:
    made = job(release)
    made["status"], made["metadata"]["creationTimestamp"] = status, SUBMITTED
    made["spec"]["preRunningDeadlineSeconds"] = 3600
    now = datetime.fromisoformat(SUBMITTED).timestamp() + 60 * minutes
    said = late(submissions([made]), now)
    assert bool(said) == bool(words)
    if words is not None:
        assert said[0].startswith(f"mnist5k-cnn-s-4e261bdc-1 was submitted {minutes} min ago")
        assert words in said[0]
    made["spec"]["suspend"] = True  # queued
    assert late(submissions([made]), now) == []
    made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "q"
    assert late(submissions([made]), now) == []


def test_workers_that_the_autoscaler_asked_for_and_that_are_not_there_are_named(release: Release) -> None:
    made = job(release, "Running")
    made["status"]["rayClusterName"] = "rc"
    ray = {
        "metadata": {"name": "rc"},
        "spec": {"workerGroupSpecs": [{"maxReplicas": 40}, {"maxReplicas": 20}]},
        "status": {"desiredWorkerReplicas": 60, "readyWorkerReplicas": 3},
    }
    (said,) = missing_workers([ray], submissions([made]))
    assert "works with 3 workers and waits for 57 more" in said
    assert "(at most 60)" in said
    ray["status"] = {"desiredWorkerReplicas": 3, "readyWorkerReplicas": 3}
    assert missing_workers([ray], submissions([made])) == []
    assert missing_workers([{"metadata": {"name": "other"}, "status": {"desiredWorkerReplicas": 1}}], []) == []


def test_a_suspended_run_in_the_queue_costs_no_action_however_often_the_supervisor_looks(release: Release) -> None:
    queued = job(release, "Suspended")
    queued["spec"]["suspend"] = True
    for hour in range(1000):
        assert decide([pending()], submissions([queued]), 3600.0 * hour) == []


def test_a_stopped_run_is_stopped_in_the_store_too(release: Release) -> None:
    (action,) = decide([pending()], submissions([job(release, "Suspended", stopped=True)]), 0.0)
    assert action.why.endswith("was stopped (now)")
    assert action.what == "stop"


def test_without_pending_runs_the_supervisor_does_nothing(release: Release) -> None:
    assert decide([], submissions([job(release, "Failed")]), 0.0) == []


def failed(release: Release, number: int, parts: int = 0) -> dict[str, Any]:
    made = fill(release, REQUEST, number, "", "", parts=parts)
    ended = datetime.fromtimestamp(1000.0 * number, UTC).isoformat()
    made["status"] = {"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded", "endTime": ended}
    return made


def test_failures_in_a_row_are_submitted_again_after_growing_pauses_and_the_tenth_stops_the_run(
    release: Release,
) -> None:
    pauses = []
    for number in range(1, 10):
        known = submissions([failed(release, n) for n in range(1, number + 1)])
        end = 1000.0 * number
        (early,) = decide([pending()], known, end + 1)
        assert early.what == "wait"
        pauses.append(next(p for p in range(1, 5000) if decide([pending()], known, end + p)[0].what == "submit"))
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    (last,) = decide([pending()], submissions([failed(release, n) for n in range(1, 11)]), 1e9)
    assert last.what == "stop"
    assert "failed (10 of 10 in a row without a new part): DeadlineExceeded" in last.why


def test_a_new_part_begins_the_count_of_failures_again(release: Release) -> None:
    known = submissions([failed(release, n, parts=0 if n < 9 else 5) for n in range(1, 10)])
    (action,) = decide([pending() | {"parts": 5}], known, 1e9)
    assert (action.what, action.parts) == ("submit", 5)
    assert "2 of 10" in action.why
    (later,) = decide([pending() | {"parts": 6}], known, 1e9)
    assert "1 of 10" in later.why


def ray_cluster(name: str, owner: str | None, created: float = 0.0) -> dict[str, Any]:
    labels = {} if owner is None else {"ray.io/originated-from-cr-name": owner}
    at = datetime.fromtimestamp(created, UTC).isoformat()
    return {"metadata": {"name": name, "labels": labels, "creationTimestamp": at}}


def test_clusters_of_ended_or_deleted_rayjobs_are_leaks_once_their_time_is_over(release: Release) -> None:
    over, live = failed(release, 1), job(release, "Running")
    live["metadata"]["name"] = "live-2"
    known = submissions([over, live])
    rays = [
        ray_cluster("ended", over["metadata"]["name"]),
        ray_cluster("gone", "deleted-3", created=1000.0),
        ray_cluster("live", "live-2"),
        ray_cluster("standing", None),
    ]
    assert [leak.name for leak in leaks(rays, known, 600.0, 1000.0 + 600 + 301)] == ["ended", "gone"]
    assert leaks(rays, known, 600.0, 1000.0 + 600 + 299) == []


def test_deleted_ray_pods_that_outlive_their_grace_period_are_stuck() -> None:
    def pod(name: str, ends: float | None, cluster: str | None = "rc") -> dict[str, Any]:
        labels = {} if cluster is None else {"ray.io/cluster": cluster}
        at = {} if ends is None else {"deletionTimestamp": datetime.fromtimestamp(ends, UTC).isoformat()}
        return {"metadata": {"name": name, "labels": labels, **at}, "spec": {"nodeName": "node2"}}

    pods = [pod("works", None), pod("ends", 1000.0), pod("exporter", 1000.0, cluster=None)]
    assert stuck(pods, 1000.0 + 59) == []
    assert [(one.name, one.node) for one in stuck(pods, 1000.0 + 61)] == [("ends", "node2")]


def test_the_stores_credentials_are_read_and_never_shown(tmp_path: Any) -> None:
    path = tmp_path / "credentials"
    path.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b%c\n")
    assert credentials(path) == ("a", "b%c")
    path.write_text("aws_secret_access_key = b%c\n")
    with pytest.raises(ValueError, match="expected an AWS credentials file") as caught:
        credentials(path)
    assert "b%c" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            '{"run": "4e", "time": "2026-11-24T13:58:29.543+00:00", "level": "info", "source": "zooforge.x", '
            '"message": "part committed", "epoch": 3, "models": 6}',
            "13:58:29 info  part committed (epoch=3 models=6)",
        ),
        ('{"time": "2026-11-24T13:58:29+00:00", "level": "error", "message": "m", "exception": "E"}',
         "13:58:29 error  m\nE"),
        ("mnist5k-cnn-s: 8 checks, 8 equal", "mnist5k-cnn-s: 8 checks, 8 equal"),
        ('{"a": 1}', '{"a": 1}'),
        ("3", "3"),
    ],
)  # fmt: skip
def test_events_in_a_pods_log_are_sentences_for_people(line: str, said: str) -> None:
    assert readable(line) == said


def test_a_rayjob_that_failed_before_its_driver_began_is_submitted_again_and_one_that_finished_is_not(
    release: Release,
) -> None:
    jobs = [failed(release, 1), failed(release, 2)]
    jobs[0]["spec"]["entrypoint"] = "exec env ZOO_JOB=older.aa python"
    jobs[1]["spec"]["entrypoint"] = "exec env ZOO_JOB=newer.bb python"
    known = submissions(jobs)
    suspects = failed_without_a_trace([], known, 2000.0 + 60)
    assert [one.job_id for one in suspects] == ["newer.bb"]
    (action,) = decide(never_begun(suspects, {"older.aa"}), known, 2000.0 + 3600)
    assert (action.what, action.request) == ("submit", REQUEST)
    assert never_begun(suspects, {"older.aa", "newer.bb"}) == []
    assert failed_without_a_trace([pending()], known, 2000.0 + 60) == []
    assert failed_without_a_trace([], known, 2000.0 + 2 * 86400) == []
