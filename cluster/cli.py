"""The verbs of `zoo cluster`: options, and what each verb prints."""

import base64
import contextlib
import json
import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import yaml

from . import costs, helm, preflight, progress, run_job, runs, values_schema, zoo_command
from .client import Cluster, connect
from .errors import ClusterError, InputError, NotInstalled, ObjectMissing
from .kuberay import install_commands
from .log_lines import readable
from .options import dry_run_option, json_option, print_json, target_options
from .pods import table
from .port_forward import PortForward
from .spec import RunRequest, Target
from .store_secret import SECRET_NAME, store_secret
from .supervise import decide, failed_without_a_trace, never_begun
from .values import check, from_options, merge, parse_set
from .waiting import late, missing_workers


@click.group("cluster")
def command() -> None:
    """Deploy to Kubernetes, submit, follow and stop runs there."""


@command.command("preflight")
@target_options
@click.option("--no-inside", is_flag=True, help="Do not start a pod that tries the store from inside.")
@json_option
def preflight_command(context: str | None, namespace: str, release: str, no_inside: bool, as_json: bool) -> int:
    """Check whether the cluster can run zoos: versions, capacity, GPUs, credentials, the store from inside."""
    cluster, target = connect(context), Target(namespace, release)
    results = []
    config = runs.find_release(cluster, target)
    for check_ in preflight.checks(cluster, target, config, inside=not no_inside):
        results.append(check_)
        if not as_json:
            click.echo(check_.line())
    if as_json:
        print_json([result.to_json() for result in results])
    return 2 if any(result.ok is False for result in results) else 0


@command.command("install-operator")
@click.option("--context", envvar="ZOO_KUBE_CONTEXT", help="Context of the kubeconfig; default: the current one.")
@click.option("--operator-namespace", default="kuberay-system", show_default=True)
@click.option("--version", default="1.6.2", show_default=True, help="Release of KubeRay.")
@dry_run_option
def install_operator(context: str | None, operator_namespace: str, version: str, dry_run: bool) -> None:
    """Install or upgrade the KubeRay operator with its own chart."""
    for line in install_commands(context, operator_namespace, version):
        if dry_run:
            click.echo(shlex.join(line))
        else:
            helm.run(line)


@command.command("deploy")
@target_options
@click.option("-f", "--values", "files", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a value, as Helm's --set does.")
@click.option("--image", envvar="ZOO_IMAGE", help="[REGISTRY/]REPOSITORY[:TAG][@DIGEST].")
@click.option("--store", metavar="URL", help="s3://bucket/prefix.")
@click.option("--secret", help="Secret with an AWS credentials file.")
@click.option("--embedded-store", is_flag=True, help="Run a SeaweedFS server in the cluster, for trying out.")
@click.option("--wait", "wait_seconds", type=int, default=0, help="Seconds to wait until everything is ready.")
@dry_run_option
def deploy(
    context: str | None,
    namespace: str,
    release: str,
    files: tuple[Path, ...],
    settings: tuple[str, ...],
    image: str | None,
    store: str | None,
    secret: str | None,
    embedded_store: bool,
    wait_seconds: int,
    dry_run: bool,
) -> None:
    """Install or upgrade the release: everything except the runs."""
    own = from_options(image, store, secret or (SECRET_NAME if embedded_store else None))
    if embedded_store:
        own = merge(own, {"embeddedStore": {"enabled": True}})
    layers = [yaml.safe_load(path.read_text()) or {} for path in files]
    values = merge(*layers, own)
    schema = json.loads((values_schema.CHART / "values.schema.json").read_text())
    check(merge(values, parse_set(settings)), schema)
    extra = ["--create-namespace", *(["--wait", "--timeout", f"{wait_seconds}s"] if wait_seconds else [])]
    line = helm.upgrade(release, str(values_schema.CHART), namespace, context, values, settings, extra)
    if dry_run:
        click.echo(f"{shlex.join(line)} <<'EOF'\n{yaml.safe_dump(values)}EOF")
        return
    cluster = connect(context)
    if embedded_store and secret is None:
        store_secret(cluster, namespace)
    helm.run(line, values)


@command.command("submit")
@click.argument("name")
@target_options
@click.option("--models", metavar="A:B", help="Models A to B - 1; default: all of the zoo.")
@click.option("--epochs", type=int, metavar="N", help="States 0 to N; default: the zoo's own.")
@click.option("--twin-epochs", type=int, metavar="N", help="Epochs of sparsification; default: the zoo's own.")
@click.option("--no-twins", is_flag=True, help="Make no sparse twins.")
@click.option("--allow-code", is_flag=True, help="Run the code that the spec has as its network, here and there.")
@click.option("--max-dollars", type=click.FloatRange(0), help="Commit and stop when the run has cost this much.")
@click.option("--max-hours", type=click.FloatRange(0), help="Commit and stop after this many hours.")
@click.option("--max-workers", type=click.IntRange(1), help="Largest number of workers.")
@click.option("--dollars-per-hour", type=click.FloatRange(0), help="Price of a slot per hour, for cap and account.")
@click.option("--single-writer", is_flag=True, help="Work on a store whose conditional writes are not atomic.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@dry_run_option
@json_option
def submit(
    name: str,
    context: str | None,
    namespace: str,
    release: str,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Run a zoo in the cluster: train, sparsify, vectorize, verify. Submitting again continues a run that stopped."""
    if asked["no_twins"] and asked["twin_epochs"] is not None:
        raise InputError(f"--twin-epochs {asked['twin_epochs']} and --no-twins contradict each other; give one of them")
    path = Path(name)
    spec = (
        zoo_command.spec_text(name, asked["allow_code"])
        if path.suffix in (".yaml", ".yml") and path.is_file()
        else None
    )
    options = costs.plan_options(asked)
    plans = zoo_command.plan(name, options)
    request = RunRequest(zoo=plans[0]["zoo"], run=plans[0]["run"], spec=spec, **asked)
    run_job.job_name(request.zoo, request.run, 1)
    cluster, target = connect(context), Target(namespace, release)
    config = runs.release_of(cluster, target)
    prepared = runs.prepare(cluster, target, config, request)
    if isinstance(prepared, runs.Submitted):
        _submitted(prepared, as_json)
        return
    if dry_run:
        click.echo(yaml.safe_dump(prepared, sort_keys=False), nl=False)
        return
    workers = prepared["spec"].get("rayClusterSpec") or runs.standing_cluster(cluster, target)
    if machine := workers and run_job.machine_options(workers):
        try:
            plans = zoo_command.plan(name, [*options, *machine])
        except InputError as error:
            click.echo(f"{error}; the time and the price below are those of {plans[0]['machine']}", err=True)
    click.echo("\n".join(costs.sentences(plans, prepared)), err=True)
    if request.single_writer:
        click.echo(
            "--single-writer: where conditional writes are not atomic, two drivers could both win, and records or "
            "stops be lost, so start no other driver of this run; nothing is published on such a store",
            err=True,
        )
    if not yes:
        if not sys.stdin.isatty():
            raise InputError("stdin is not a terminal, so the cost cannot be confirmed; give --yes")
        click.confirm("Submit?", abort=True, err=True)
    _submitted(runs.create(cluster, target, prepared), as_json)


def _submitted(one: runs.Submitted, as_json: bool) -> None:
    if as_json:
        print_json({"job": one.name, "made": one.made})
    else:
        click.echo(f"submitted {one.name}" if one.made else f"{one.name} was submitted already with the same request")


@command.command("status")
@click.argument("name", required=False)
@target_options
@json_option
def status(name: str | None, context: str | None, namespace: str, release: str, as_json: bool) -> None:
    """Show runs, pods, why a pod does not start, and the progress of runs if the exporter answers."""
    cluster, target = connect(context), Target(namespace, release)
    config = runs.release_of(cluster, target)
    known = [one for one in runs.known_submissions(cluster, target) if name in (None, one.request.zoo, one.name)]
    pods = runs.pods_of(cluster, target)
    leaked = runs.leaked_clusters(cluster, target, config, time.time())
    stuck = runs.stuck_pods(cluster, target, time.time())
    waits = [*late(known, time.time()), *missing_workers(runs.ray_clusters(cluster, target), known)]
    far = _progress(cluster, target) if config.exporter else {}
    if as_json:
        listed = [
            {"job": one.name, "zoo": one.request.zoo, "run": one.request.run, "state": one.state, "reason": one.reason}
            for one in known
        ]
        shown = [one.to_json() for one in far.values()]
        print_json(
            {
                "store": config.store,
                "runs": listed,
                "progress": shown,
                "pods": [pod.to_json() for pod in pods],
                "waits": waits,
                "leaked": [{"cluster": leak.name, "reason": leak.why} for leak in leaked],
                "stuck": [{"pod": pod.name, "node": pod.node} for pod in stuck],
            }
        )
        return
    click.echo(f"store: {config.store}{' at ' + config.endpoint if config.endpoint else ''}")
    for line in table([["RUN", "STATE", "RAY JOB", "REASON"], *([o.name, o.state, o.job, o.reason] for o in known)]):
        click.echo(line)
    for one in far.values():
        if name in (None, one.zoo):
            click.echo(progress.sentence(one))
    for wait in waits:
        click.echo(wait)
    rows = [
        [p.name, p.group or p.component, p.phase, str(p.restarts), p.reason] for p in pods if p.phase != "Succeeded"
    ]
    for line in table([["POD", "KIND", "PHASE", "RESTARTS", "WHY NOT RUNNING"], *rows]):
        click.echo(line)
    for leak in leaked:
        click.echo(
            f"leaked: Ray cluster {leak.name}, {leak.why}; the supervisor removes it, "
            f"or kubectl -n {namespace} delete raycluster {leak.name}"
        )
    for held in stuck:
        click.echo(
            f"stuck: pod {held.name} does not end, node {held.node} does not answer; its group starts no other worker "
            f"before the supervisor removes it, or kubectl -n {namespace} delete pod {held.name} --force"
        )


def _progress(cluster: Cluster, target: Target) -> dict[str, progress.Progress]:
    path = f"api/v1/namespaces/{target.namespace}/services/{target.release}-exporter:metrics/proxy/metrics"
    try:
        return progress.parse(cluster.request("GET", path, timeout_seconds=10).decode())
    except ClusterError as error:
        runs.warn(f"no progress from the exporter: {error}")
        return {}


@command.command("logs")
@click.argument("name", required=False)
@target_options
@click.option("-f", "--follow", is_flag=True, help="Follow until the run ends, over restarts of its head.")
@click.option("--tail", type=click.IntRange(1), metavar="N", help="Only the last N lines.")
def logs(name: str | None, context: str | None, namespace: str, release: str, follow: bool, tail: int | None) -> None:
    """Show the log of the driver's pod: sentences on a terminal, else JSON lines. After the run: `zoo logs NAME`."""
    formatted: Callable[[str], str] = readable if sys.stdout.isatty() else str
    cluster, target = connect(context), Target(namespace, release)
    one = runs.newest(runs.known_submissions(cluster, target), name)
    if follow:
        for line in runs.follow(cluster, target, one, runs.warn):
            click.echo(formatted(line))
        return
    pod = runs.head_pod(cluster, target, one)
    if pod is None:
        store = runs.release_of(cluster, target).store
        raise ClusterError(
            f"{one.name} is {one.state} and has no pod; its events are in the store: "
            f"`zoo logs {one.request.zoo} --store {store}`"
        )
    for line in cluster.log(namespace, pod, "ray-head", tail=tail):
        click.echo(formatted(line))


@command.command("stop")
@click.argument("name")
@target_options
@dry_run_option
def stop(name: str, context: str | None, namespace: str, release: str, dry_run: bool) -> None:
    """Stop a run; its workers commit their epochs first. It stays stopped until it is submitted again."""
    cluster, target = connect(context), Target(namespace, release)
    one = runs.newest(runs.known_submissions(cluster, target), name)
    if not one.live:
        click.echo(f"{one.name} is {one.state}; nothing to stop")
        return
    if dry_run:
        click.echo(f"would stop {one.name}")
        return
    click.echo(f"{runs.stop(cluster, target, one)}; `zoo cluster submit {one.request.zoo}` continues it")


@command.command("token")
@click.argument("name", required=False)
@target_options
def token(name: str | None, context: str | None, namespace: str, release: str) -> None:
    """Print the token that Ray's dashboard and Jobs API require."""
    cluster, target = connect(context), Target(namespace, release)
    click.echo(_token(cluster, target, name))


def _ray_cluster(cluster: Cluster, target: Target, name: str | None) -> str:
    if name is None and runs.release_of(cluster, target).mode == "cluster":
        return target.release
    one = runs.newest(runs.known_submissions(cluster, target), name)
    if not one.cluster:
        raise ClusterError(f"{one.name} is {one.state} and has no Ray cluster yet")
    return one.cluster


def _token(cluster: Cluster, target: Target, name: str | None) -> str:
    ray = _ray_cluster(cluster, target, name)
    auth = cluster.get("rayclusters", target.namespace, ray)["spec"].get("authOptions") or {}
    if auth.get("mode") != "token":
        raise InputError(f"Ray cluster {ray} asks for no token: auth.enabled is false")
    try:
        secret = cluster.get("secrets", target.namespace, auth.get("secretName") or ray)
    except ObjectMissing:
        raise NotInstalled(f"the Secret with the token of {ray} is missing; did the operator make it?") from None
    return base64.b64decode(secret["data"]["auth_token"]).decode()


@command.command("port-forward")
@click.argument("name", required=False)
@target_options
@click.option("--dashboard-port", type=int, default=8265, show_default=True, help="Local; 0 takes a free one.")
@click.option("--metrics-port", type=int, default=0, help="Local port of the driver's metrics; 0 takes a free one.")
def port_forward(
    name: str | None, context: str | None, namespace: str, release: str, dashboard_port: int, metrics_port: int
) -> None:
    """Forward Ray's dashboard and the driver's metrics to this machine's loopback, until Ctrl-C."""
    cluster, target = connect(context), Target(namespace, release)
    ray = _ray_cluster(cluster, target, name)
    heads = cluster.list("pods", namespace, f"ray.io/cluster={ray},ray.io/node-type=head")
    if not heads:
        raise ClusterError(f"Ray cluster {ray} has no head pod; `zoo cluster status` says why")
    ports = {dashboard_port: 8265, metrics_port: 9095}
    forward = PortForward(cluster, namespace, heads[0]["metadata"]["name"], ports, partial(click.echo, err=True))
    click.echo(
        f"dashboard http://127.0.0.1:{forward.local_port(8265)}, metrics http://127.0.0.1:{forward.local_port(9095)}/metrics"
    )
    click.echo("the dashboard asks for what `zoo cluster token` prints; Ctrl-C ends this", err=True)
    try:
        forward.serve()
    finally:
        forward.close()


@command.command("undeploy")
@target_options
@click.option("--yes", is_flag=True, help="Even if runs are live: they are stopped, and continue when submitted again.")
@dry_run_option
def undeploy(context: str | None, namespace: str, release: str, yes: bool, dry_run: bool) -> None:
    """Remove the release. Zoos stay in their store, and the embedded store's volume claim is kept."""
    cluster, target = connect(context), Target(namespace, release)
    try:
        known = runs.known_submissions(cluster, target)
    except NotInstalled:
        known = []
    live = [one.name for one in known if one.live]
    if live and not yes:
        raise InputError(f"live: {', '.join(live)}; stop them first, or say --yes")
    line = [helm.program(), "uninstall", release, "--namespace", namespace, "--ignore-not-found"]
    line += ["--kube-context", context] if context else []
    if dry_run:
        click.echo(shlex.join(line))
        return
    for one in known:
        cluster.delete("rayjobs", namespace, one.name)
    helm.run(line)
    left = [
        c["metadata"]["name"]
        for c in cluster.list("persistentvolumeclaims", namespace, f"app.kubernetes.io/instance={release}")
    ]
    if left:
        click.echo(
            f"kept: volume claim {', '.join(left)} with the embedded store's data; "
            f"kubectl -n {namespace} delete pvc {left[0]}"
        )


@command.command("supervise", hidden=True)
@target_options
@click.option("--store", envvar="ZOO_STORE", required=True, metavar="URL")
@dry_run_option
def supervise(context: str | None, namespace: str, release: str, store: str, dry_run: bool) -> None:
    """One pass of the supervisor: submit again every run that is wanted, unfinished and without a driver."""
    cluster, target = connect(context), Target(namespace, release)
    config = runs.release_of(cluster, target)
    if config.budgets and not dry_run:
        for name in runs.protect_heads(cluster, target):
            click.echo(f"made PodDisruptionBudget {name}")
    pending = zoo_command.pending(store, config.origin)
    known = runs.known_submissions(cluster, target)
    if failed := failed_without_a_trace(pending, known, time.time()):
        pending += never_begun(failed, zoo_command.begun(store, config.origin))
    actions = decide(pending, known, time.time())
    for leak in runs.leaked_clusters(cluster, target, config, time.time()):
        click.echo(f"remove Ray cluster {leak.name}: {leak.why}")
        if not dry_run:
            with contextlib.suppress(ObjectMissing):
                cluster.delete("rayclusters", namespace, leak.name)
    for action in actions:
        click.echo(f"{action.what} {action.request.zoo}: {action.why}")
        if dry_run or action.what == "wait":
            continue
        if action.what == "stop":
            zoo_command.stop(store, action.request.zoo, action.why, single_writer=action.request.single_writer)
            continue
        prepared = runs.prepare(cluster, target, config, action.request, action.parts)
        if not isinstance(prepared, runs.Submitted):
            click.echo(f"submitted {runs.create(cluster, target, prepared).name}")
    if not actions:
        click.echo(f"{len(pending)} unfinished runs without a driver; nothing to do")
    # At the end, because a role of an earlier chart does not allow it.
    for pod in runs.stuck_pods(cluster, target, time.time()):
        click.echo(f"remove pod {pod.name}: its grace period is over, and node {pod.node} does not answer")
        if not dry_run:
            with contextlib.suppress(ObjectMissing):
                cluster.delete("pods", namespace, pod.name, force=True)
