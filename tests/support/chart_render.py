"""Renders the chart offline, with the `helm` command or, if there is none, with Helm's library as a Python package."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

import yaml

from tests.support.paths import ROOT

CHART = ROOT / "helm" / "zooforge"
Manifest = dict[str, Any]


class RenderFailed(Exception):
    """Helm refused the values or a template."""


def helm() -> str | None:
    return shutil.which(os.environ.get("HELM", "helm"))


def missing() -> str | None:
    """The reason why nothing can be rendered here, or None."""
    if helm() or importlib.util.find_spec("helm_python"):
        return None
    return "neither the command helm (HELM=PATH names another one) nor the package helm-python-sdk is here"


def render(values: dict[str, Any], release: str = "zoo", namespace: str = "zoos") -> list[Manifest]:
    """Every object that an install with these values makes, tests and hooks included."""
    if command := helm():
        arguments = [command, "template", release, str(CHART), "--namespace", namespace, "--values", "-"]
        done = subprocess.run(arguments, input=yaml.safe_dump(values), text=True, capture_output=True)
        if done.returncode:
            raise RenderFailed(done.stderr)
        return [document for document in yaml.load_all(done.stdout, yaml.CSafeLoader) if document]
    import helm_python

    with helm_python.Chart.load(CHART) as chart:
        try:
            chart.validate_schema(values)
            files = chart.render(values, name=release, namespace=namespace)
        except helm_python.HelmError as error:
            raise RenderFailed(str(error)) from error
    texts = [text for path, text in sorted(files.items()) if path.endswith(".yaml")]
    return [document for text in texts for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def lint(values: dict[str, Any]) -> list[str]:
    """The findings of `helm lint --strict`; empty if there are none."""
    if command := helm():
        arguments = [command, "lint", "--strict", "--quiet", str(CHART), "--values", "-"]
        done = subprocess.run(arguments, input=yaml.safe_dump(values), text=True, capture_output=True)
        return [] if done.returncode == 0 else [done.stdout + done.stderr]
    import helm_python

    report = helm_python.lint(CHART, values, strict=True)
    return [message["error"] for message in report["messages"] if message["severity"] >= 2]


@dataclass(frozen=True)
class Case:
    """One values file of the chart's ci folder and what it renders to."""

    name: str
    values: dict[str, Any]
    manifests: list[Manifest]

    def kind(self, kind: str) -> list[Manifest]:
        return [m for m in self.manifests if m["kind"] == kind]

    @property
    def ray_job(self) -> Manifest:
        """The template that the release keeps for runs."""
        runs = next(m for m in self.kind("ConfigMap") if "rayjob.yaml" in m.get("data", {}))
        job: Manifest = yaml.load(runs["data"]["rayjob.yaml"], yaml.CSafeLoader)
        return job

    @property
    def ray_clusters(self) -> list[Manifest]:
        """Every Ray cluster spec: the standing one's and that of runs."""
        specs = [m["spec"] for m in self.kind("RayCluster")]
        own = self.ray_job["spec"].get("rayClusterSpec")
        return [*specs, *([own] if own else [])]

    @property
    def ray_pods(self) -> list[Manifest]:
        return [
            group["template"]
            for spec in self.ray_clusters
            for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])
        ]

    @property
    def pods(self) -> list[Manifest]:
        """Every pod template, Ray's and ours."""
        ours = []
        for manifest in self.manifests:
            if manifest["kind"] == "Pod":
                ours.append(manifest)
            elif manifest["kind"] == "Deployment":
                ours.append(manifest["spec"]["template"])
            elif manifest["kind"] == "CronJob":
                ours.append(manifest["spec"]["jobTemplate"]["spec"]["template"])
        return [*ours, *self.ray_pods]


def load(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())
    return values


CASES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
