"""A Kubernetes API server as small as these tests need: objects by path over real HTTP, and refusals on demand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

import yaml

from tests.support.web_server import Quiet, serve

Object = dict[str, Any]


class FakeAPI:
    """The objects of the server, and every request that changed one."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.texts: dict[str, str] = {}
        self.refuse: dict[str, int] = {}
        self.unknown: dict[str, str] = {}  # by kind of object: a field of its spec that this server does not know
        self.writes: list[tuple[str, str]] = []
        self.forced: list[str] = []  # deleted without a grace period
        self.address = ""

    def put(self, collection: str, name: str, **content: Any) -> Object:
        """Hold an object of a collection such as ``api/v1/namespaces/zoos/pods``."""
        value: Object = {**content, "metadata": {"name": name, **content.get("metadata", {})}}
        self.objects[f"/{collection}/{name}"] = value
        return value

    def collection(self, path: str) -> list[Object]:
        """Objects of a collection; without a namespace, those of all namespaces."""
        group, _, kind = path.rpartition("/")
        pattern = re.compile(rf"{re.escape(group)}(/namespaces/[^/]+)?/{re.escape(kind)}/[^/]+")
        return [value for key, value in sorted(self.objects.items()) if pattern.fullmatch(key)]

    def kubeconfig(self, folder: Path) -> Path:
        path = folder / "kubeconfig"
        value = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": self.address}}],
            "users": [{"name": "me", "user": {"token": "secret-token"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me"}}],
            "current-context": "fake",
        }
        path.write_text(yaml.safe_dump(value))
        return path


def matches(value: Object, selector: str) -> bool:
    labels = value["metadata"].get("labels", {})
    return all(labels.get(k) == v for k, v in (term.split("=") for term in selector.split(",") if term))


def merge_patch(value: Object, patch: Object) -> None:
    for key, new in patch.items():
        if isinstance(new, dict):
            merge_patch(value.setdefault(key, {}), new)
        else:
            value[key] = new


def handler(api: FakeAPI) -> type[Quiet]:
    class Handler(Quiet):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, value: Any) -> None:
            text = value if isinstance(value, str) else json.dumps(value)
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(value, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def status(self, code: int, message: str) -> None:
            self.answer(code, {"kind": "Status", "code": code, "message": message})

        def handle_one(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            kind = next((word for word in reversed(url.path.split("/")) if word in api.refuse), "")
            if kind:
                self.status(api.refuse[kind], f"{kind} is forbidden: user me may not")
            elif self.command == "POST" and (field := self.refused_field(url, body)):
                self.status(400, f'it cannot be handled: strict decoding error: unknown field "spec.{field}"')
            elif self.command == "GET":
                self.read(url.path, parse_qs(url.query).get("labelSelector", [""])[0])
            else:
                api.writes.append((self.command, url.path))
                self.write(url.path, body)

        def refused_field(self, url: SplitResult, body: Any) -> str | None:
            field = api.unknown.get(url.path.rpartition("/")[2])
            strict = parse_qs(url.query).get("fieldValidation") == ["Strict"]
            return field if strict and field in body.get("spec", {}) else None

        def read(self, path: str, selector: str) -> None:
            if path in api.texts:
                self.answer(200, api.texts[path])
            elif path in api.objects:
                self.answer(200, api.objects[path])
            elif path.rpartition("/")[2] in COLLECTIONS:
                self.answer(200, {"items": [v for v in api.collection(path) if matches(v, selector)]})
            else:
                self.status(404, f"{path.rpartition('/')[2]} not found")

        def write(self, path: str, body: Any) -> None:
            if self.command == "POST":
                key = f"{path}/{body['metadata']['name']}"
                if key in api.objects:
                    self.status(409, f"{body['metadata']['name']} already exists")
                    return
                api.objects[key] = body
                self.answer(201, body)
            elif path not in api.objects:
                self.status(404, f"{path.rpartition('/')[2]} not found")
            elif self.command == "PATCH":
                merge_patch(api.objects[path], body)
                self.answer(200, api.objects[path])
            else:
                if body and body.get("gracePeriodSeconds") == 0:
                    api.forced.append(path)
                self.answer(200, api.objects.pop(path))

        do_GET = do_POST = do_PATCH = do_DELETE = handle_one

    return Handler


COLLECTIONS = {
    "pods",
    "rayjobs",
    "rayclusters",
    "poddisruptionbudgets",
    "events",
    "nodes",
    "deployments",
    "resourcequotas",
    "persistentvolumeclaims",
    "storageclasses",
}


@contextmanager
def running(api: FakeAPI) -> Iterator[FakeAPI]:
    with serve(handler(api)) as api.address:
        yield api
