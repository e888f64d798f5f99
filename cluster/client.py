"""A client of the Kubernetes API: takes and returns JSON objects, and raises one-line errors."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import quote

import urllib3
from kubernetes import client as api
from kubernetes import config

from .errors import AlreadyExists, ClusterError, ClusterUnreachable, InputError, NotAllowed, ObjectMissing, UnknownField
from .spec import Manifest

TIMEOUT_SECONDS = 30
GROUPS = {
    "rayjobs": "apis/ray.io/v1",
    "rayclusters": "apis/ray.io/v1",
    "jobs": "apis/batch/v1",
    "deployments": "apis/apps/v1",
    "poddisruptionbudgets": "apis/policy/v1",
    "storageclasses": "apis/storage.k8s.io/v1",
    "customresourcedefinitions": "apis/apiextensions.k8s.io/v1",
}


class Cluster:
    """A connection to one API server as one user."""

    def __init__(self, configuration: api.Configuration) -> None:
        configuration.retries = 0
        self._client = api.ApiClient(configuration)
        self.host: str = configuration.host

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> bytes:
        """Send one request and return the body of the response.

        Raises:
            ClusterUnreachable: the server does not answer.
            NotAllowed, ObjectMissing, AlreadyExists: status 401 or 403, 404, 409. ClusterError: any other refusal.
        """
        headers = {"Accept": "application/json, */*"}
        if body is not None:
            headers["Content-Type"] = content_type
        sent = self._client.param_serialize(
            method,
            f"/{path}",
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = self._client.call_api(*sent, _request_timeout=timeout_seconds)
            data = cast(bytes, response.read() or b"")
        except urllib3.exceptions.HTTPError as error:
            reason = str(getattr(error, "reason", None) or error).rpartition(": ")[2]
            raise ClusterUnreachable(
                f"the API server {self.host} does not answer ({_short(reason)}); is it up, is this the right context?"
            ) from None
        if response.status >= 400:
            raise refusal(response.status, data, f"{method} {path}")
        return data

    def version(self) -> Manifest:
        """Version of the API server: ``gitVersion``, ``major``, ``minor``."""
        return self._json("GET", "version")

    def get(self, kind: str, namespace: str | None, name: str) -> Manifest:
        return self._json("GET", f"{_path(kind, namespace)}/{quote(name)}")

    def list(self, kind: str, namespace: str | None, selector: str = "") -> list[Manifest]:
        query = {"labelSelector": selector} if selector else {}
        return list(self._json("GET", _path(kind, namespace), query=query)["items"])

    def create(self, kind: str, namespace: str | None, manifest: Mapping[str, Any]) -> Manifest:
        """Create an object. Validation is strict: without it the server drops fields that it does not know."""
        return self._json("POST", _path(kind, namespace), body=manifest, query={"fieldValidation": "Strict"})

    def patch(self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]) -> Manifest:
        """A merge patch: ``None`` removes a field."""
        kwargs = {"body": patch, "content_type": "application/merge-patch+json"}
        return self._json("PATCH", f"{_path(kind, namespace)}/{quote(name)}", **kwargs)

    def delete(self, kind: str, namespace: str, name: str, *, force: bool = False) -> None:
        """Delete an object; with ``force`` at once, without waiting until its node has ended it."""
        body: dict[str, Any] = {"propagationPolicy": "Background"}
        if force:
            body["gracePeriodSeconds"] = 0
        self.request("DELETE", f"{_path(kind, namespace)}/{quote(name)}", body=body)

    def find(self, kind: str, namespace: str | None, name: str) -> Manifest | None:
        """The object, or None if there is none of this name."""
        try:
            return self.get(kind, namespace, name)
        except ObjectMissing:
            return None

    def log(
        self, namespace: str, pod: str, container: str, *, follow: bool = False, tail: int | None = None
    ) -> Iterator[str]:
        """Yield the lines of a container's log; with ``follow`` until the container ends."""
        query: dict[str, Any] = {"container": container, "follow": str(follow).lower()}
        if tail is not None:
            query["tailLines"] = tail
        path = f"{_path('pods', namespace)}/{quote(pod)}/log"
        if not follow:
            yield from self.request("GET", path, query=query).decode(errors="replace").splitlines()
            return
        core = api.CoreV1Api(self._client)
        options = {"container": container, "follow": True, "_preload_content": False}
        if tail is not None:
            options["tail_lines"] = tail
        try:
            response = core.read_namespaced_pod_log(pod, namespace, **options)
            rest = b""
            for piece in response.stream():
                *lines, rest = (rest + piece).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
            if rest:
                yield rest.decode(errors="replace")
        except api.ApiException as error:
            raise refusal(error.status or 0, str(error.body or "").encode(), f"GET {path}") from None

    @property
    def core(self) -> api.CoreV1Api:
        """The generated client, for requests that need a stream (port-forward)."""
        return api.CoreV1Api(self._client)

    def _json(self, method: str, path: str, **kwargs: Any) -> Manifest:
        answer: Manifest = json.loads(self.request(method, path, **kwargs))
        return answer


def connect(context: str | None = None) -> Cluster:
    """Connect to the cluster of a kubeconfig context (default: the current one), or to the cluster this pod runs in.

    Raises:
        ClusterUnreachable: there is no kubeconfig, or it has no such context.
    """
    configuration = api.Configuration()
    if context is None and "KUBERNETES_SERVICE_HOST" in os.environ and not os.environ.get("KUBECONFIG"):
        config.load_incluster_config(client_configuration=configuration)
        return Cluster(configuration)
    try:
        # Without a path the client library uses the value that KUBECONFIG had when the library was imported.
        config.load_kube_config(os.environ.get("KUBECONFIG"), context=context, client_configuration=configuration)
    except (config.ConfigException, OSError, ValueError) as error:
        where = os.environ.get("KUBECONFIG", "~/.kube/config")
        named = f"context {context!r} is not in it or it" if context else "it"
        raise ClusterUnreachable(
            f"kubeconfig {where}: {named} cannot be used ({_short(error)}); "
            "set KUBECONFIG, or name a context of `kubectl config get-contexts` with --context"
        ) from None
    return Cluster(configuration)


def refusal(status: int, body: bytes, what: str) -> ClusterError:
    """The error for a response with status 400 or above."""
    try:
        message = str(json.loads(body).get("message") or "")
    except (ValueError, AttributeError):
        message = body.decode(errors="replace")
    message = _short(message) or f"status {status}"
    if status in (401, 403):
        return NotAllowed(
            f"the API server refuses this user: {message}; ask for the submitter Role, or use another context"
        )
    if status == 404:
        return ObjectMissing(f"{what}: {message}")
    if status == 409:
        return AlreadyExists(f"{what}: {message}")
    if unknown := re.search(r'unknown field "([^"]+)"', message):
        return UnknownField(unknown[1], what)
    if status in (400, 422):
        return InputError(f"{what}: the API server refuses the object: {message}")
    return ClusterError(f"{what}: {message}")


def _path(kind: str, namespace: str | None) -> str:
    group = GROUPS.get(kind, "api/v1")
    return f"{group}/namespaces/{quote(namespace)}/{kind}" if namespace else f"{group}/{kind}"


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 300 else text[:297] + "..."
