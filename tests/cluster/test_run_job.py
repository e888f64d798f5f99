"""RayJobs from requests: pure."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cluster.conftest import config_data, template
from zooforge.cluster.errors import InputError, NotInstalled
from zooforge.cluster.run_job import (
    fill,
    job_name,
    limit_workers,
    next_number,
    num_slots,
    submission,
    submissions,
    whole_cores,
    worker_machines,
    workers_per_gpu,
)
from zooforge.cluster.spec import Release, RunRequest, Target

RUN = "4e261bdc3f742728126c3fc6c7922184"


def request(**asked: Any) -> RunRequest:
    return RunRequest("mnist5k-cnn-s", RUN, **asked)


def environment(entrypoint: str) -> tuple[dict[str, str], list[str]]:
    """The variables and the command of ``exec env A=B ... python ...``."""
    words = shlex.split(entrypoint)
    assert words[:2] == ["exec", "env"]
    start = words.index("python")
    return dict(word.split("=", 1) for word in words[2:start]), words[start:]


def test_a_run_is_named_by_zoo_run_and_submission(release: Release) -> None:
    job = fill(release, request(), 7, "zoos/zooforge", "abcd")
    assert job["metadata"]["name"] == job["spec"]["jobId"] == "mnist5k-cnn-s-4e261bdc-7"


def test_the_driver_is_told_everything_that_was_asked(release: Release) -> None:
    asked = request(
        models="0:32", epochs=4, twin_epochs=2, max_dollars=1.5, max_hours=2.0, no_twins=True, single_writer=True
    )
    job = fill(release, asked, 1, "zoos/zooforge", "abcd")
    variables, command = environment(job["spec"]["entrypoint"])
    assert variables["ZOO_JOB"] == "mnist5k-cnn-s-4e261bdc-1.abcd"
    assert variables["ZOO_ORIGIN"] == "zoos/zooforge"
    assert (variables["ZOO_MAX_LIVES"], variables["ZOO_MAX_RUN_HOURS"]) == ("500", "2160")
    assert RunRequest.from_json(variables["ZOO_REQUEST"]) == asked
    said = "run mnist5k-cnn-s --store s3://bucket/zoos --slots 8"
    assert command == f"python -m zooforge.zoo_jobs.unattended {said}".split()


def test_run_and_zoo_are_labels_of_the_job_and_of_every_pod(release: Release) -> None:
    job = fill(release, request(), 1, "", "")
    cluster = job["spec"]["rayClusterSpec"]
    for metadata in (
        job["metadata"],
        cluster["headGroupSpec"]["template"]["metadata"],
        *(group["template"]["metadata"] for group in cluster["workerGroupSpecs"]),
    ):
        assert metadata["labels"] == {
            "zooforge.io/release": "zooforge",
            "zooforge.io/zoo": "mnist5k-cnn-s",
            "zooforge.io/run": "4e261bdc",
        }


def test_filling_leaves_the_template_as_it_is(release: Release) -> None:
    fill(release, request(max_workers=1), 1, "", "")
    assert release.template == template()


def test_a_standing_cluster_is_selected_and_keeps_its_workers(target: Target) -> None:
    standing = Release.from_config(config_data("cluster"), target)
    job = fill(standing, request(), 1, "", "")
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": "zooforge"}
    assert "--slots" not in job["spec"]["entrypoint"]
    spec = template()["spec"]["rayClusterSpec"]
    assert fill(standing, request(), 1, "", "", spec)["spec"]["entrypoint"].endswith("--slots 8")
    assert fill(standing, request(max_workers=3), 1, "", "", spec)["spec"]["entrypoint"].endswith("--slots 3")


@given(most=st.integers(1, 9))
def test_a_run_never_gets_more_workers_than_allowed(most: int) -> None:
    groups = template()["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    limit_workers(groups, most)
    assert sum(group["maxReplicas"] for group in groups) == min(most, 5)
    assert all(group["minReplicas"] <= group["maxReplicas"] for group in groups)


def test_slots_are_gpus_where_there_are_any_and_cores_elsewhere() -> None:
    cluster = template()["spec"]["rayClusterSpec"]
    assert num_slots(cluster) == 3 * 2 + 2 * 1
    cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = 2
    assert num_slots(cluster) == 6
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    head["env"] = [*head.get("env", []), {"name": "ZOO_WORKERS_PER_GPU", "value": "2"}]
    assert num_slots(cluster) == 12


def test_the_machines_are_those_of_the_groups_that_run_tasks() -> None:
    cluster = template()["spec"]["rayClusterSpec"]
    assert (worker_machines(cluster), workers_per_gpu(cluster)) == ([], 1)
    first, second = (group["template"]["spec"]["containers"][0] for group in cluster["workerGroupSpecs"])
    first["env"].append({"name": "ZOO_MACHINE", "value": "c3-44"})
    second["env"].append({"name": "ZOO_MACHINE", "value": "l4"})
    assert worker_machines(cluster) == ["c3-44", "l4"]
    second["resources"]["limits"]["nvidia.com/gpu"] = 1
    assert worker_machines(cluster) == ["l4"]


@pytest.mark.parametrize(("quantity", "cores"), [("4", 4), ("500m", 1), ("1500m", 2), ("2.5", 3), ("1k", 1000)])
def test_cores_are_counted_as_kuberay_does(quantity: str, cores: int) -> None:
    assert whole_cores(quantity) == cores


@pytest.mark.parametrize(
    ("zoo", "sentence"),
    [("a" * 35, "KubeRay leaves 34"), ("9zoo", "must begin with a letter"), ("Zoo", "must begin with a letter")],
)
def test_names_that_kuberay_refuses_are_refused_here(zoo: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        job_name(zoo, RUN, 1)


def test_the_longest_name_fits() -> None:
    assert len(job_name("z" * 34, RUN, 999)) == 47


def test_a_submission_is_read_back_from_its_rayjob(release: Release) -> None:
    job = fill(release, request(epochs=3), 2, "", "")
    job["status"] = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "rayClusterName": "c", "message": "m"}
    one = submission(job)
    assert one is not None
    assert (one.number, one.request, one.state, one.live, one.cluster) == (2, request(epochs=3), "running", True, "c")


@pytest.mark.parametrize(
    ("status", "spec", "annotations", "state", "live"),
    [
        ({}, {}, {}, "starting", True),
        ({"jobDeploymentStatus": "Retrying"}, {}, {}, "retrying", True),
        ({"jobDeploymentStatus": "Complete"}, {}, {}, "ended", False),
        ({"jobDeploymentStatus": "Failed"}, {}, {}, "failed", False),
        ({"jobDeploymentStatus": "Suspended"}, {"suspend": True}, {"zooforge.io/stopped": "now"}, "stopped", False),
        ({"jobDeploymentStatus": "Suspending"}, {"suspend": True}, {"zooforge.io/stopped": "now"}, "stopped", False),
        ({"jobDeploymentStatus": "Suspended"}, {"suspend": True}, {}, "stopped", False),
    ],
)
def test_states_have_words_for_people(
    release: Release, status: dict[str, Any], spec: dict[str, Any], annotations: dict[str, str], state: str, live: bool
) -> None:
    job = fill(release, request(), 1, "", "")
    job["status"] = status
    job["spec"].update(spec)
    job["metadata"]["annotations"].update(annotations)
    one = submission(job)
    assert one is not None
    assert (one.state, one.live) == (state, live)


@pytest.mark.parametrize(
    ("status", "suspend", "annotations", "state", "live"),
    [
        ({}, True, {}, "queued", True),
        ({"jobDeploymentStatus": "Suspended"}, True, {}, "queued", True),
        ({"jobDeploymentStatus": "Suspended"}, False, {}, "starting", True),
        ({"jobDeploymentStatus": "Suspending"}, True, {}, "queued", True),
        ({"jobDeploymentStatus": "Suspended"}, True, {"zooforge.io/stopped": "now"}, "stopped", False),
        ({"jobDeploymentStatus": "Failed"}, True, {}, "failed", False),
    ],
)
def test_a_run_that_kueue_suspends_is_queued_and_live(
    release: Release, status: dict[str, Any], suspend: bool, annotations: dict[str, str], state: str, live: bool
) -> None:
    job = fill(release, request(), 1, "", "")
    job["status"] = status
    job["spec"]["suspend"] = suspend
    job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "research"
    job["metadata"]["annotations"].update(annotations)
    one = submission(job)
    assert one is not None
    assert (one.state, one.live) == (state, live)


def test_rayjobs_of_others_are_left_alone(release: Release) -> None:
    foreign = {"metadata": {"name": "theirs-1"}, "spec": {}}
    ours = [fill(release, request(), number, "", "") for number in (2, 10, 1)]
    known = submissions([foreign, *ours])
    assert [one.number for one in known] == [1, 2, 10]
    assert next_number(known, RUN) == 11
    assert next_number(known, "other") == 1


@given(
    models=st.none() | st.just("0:8"),
    epochs=st.none() | st.integers(0, 9),
    dollars=st.none() | st.floats(0, 1e6),
    no_twins=st.booleans(),
    single_writer=st.booleans(),
    spec=st.none() | st.text(max_size=40),
)
def test_requests_survive_their_text(
    models: str | None,
    epochs: int | None,
    dollars: float | None,
    no_twins: bool,
    single_writer: bool,
    spec: str | None,
) -> None:
    flags = {"no_twins": no_twins, "single_writer": single_writer}
    asked = request(models=models, epochs=epochs, max_dollars=dollars, spec=spec, **flags)
    assert RunRequest.from_json(asked.to_json()) == asked


def test_a_configmap_of_another_version_is_refused_with_the_remedy(target: Target) -> None:
    with pytest.raises(NotInstalled, match="upgrade the release with `zoo cluster deploy`"):
        Release.from_config({"settings.json": "{}"}, target)
