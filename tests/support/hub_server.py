"""A server on loopback that answers as the Hugging Face Hub does to its own client, and fails on request."""

import base64
import hashlib
import json
import re
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support.faulty_service import FaultyService

TOKEN = "hf_the-token-of-the-test"
ERROR_CODES = {"Repository not found": "RepoNotFound", "Entry not found": "EntryNotFound"}
NO_LFS = 10_000  # a smaller file that is no .safetensors and no .parquet is an ordinary blob


class Hub(FaultyService):
    """Data sets of one owner, "me".

    Attributes:
        commits: of a data set, oldest first: id and files, by path.
        large: contents of large files by SHA-256, whether or not a commit names them; readers are sent to another host.
        told: paths on that other host, and whether the token came along.
    """

    token = TOKEN

    def __init__(self) -> None:
        super().__init__()
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}
        self.told: list[tuple[str, bool]] = []

    def files(self, repository: str) -> dict[str, bytes]:
        """The files that readers see at ``main``."""
        return self.commits[repository][-1][1]

    def commit(self, repository: str, files: dict[str, bytes]) -> str:
        sha = hashlib.sha1(f"{repository}{len(self.commits.get(repository, []))}".encode()).hexdigest()
        self.commits.setdefault(repository, []).append((sha, files))
        return sha

    def refusal(self, status: int) -> dict[str, Any]:
        return {"error": "as the test asks"}

    def headers(self, value: Any) -> dict[str, str]:
        if not isinstance(value, dict) or "error" not in value:
            return {}
        return {"X-Error-Message": value["error"], "X-Error-Code": ERROR_CODES.get(value["error"], "")}

    def answer(self, verb: str, url: str, body: bytes, known: bool) -> tuple[int, Any]:
        path = urlsplit(url).path
        if match := re.fullmatch(r"/lfs/([0-9a-f]{64})", path):
            if hashlib.sha256(body).hexdigest() != match[1]:
                return 400, {"error": "other bytes"}
            self.large[match[1]] = body
            return 200, {}
        if match := re.fullmatch(r"/datasets/(\w+/[\w.-]+)/resolve/(\w+)/(.+)", path):
            return self.resolved(match[1], match[2], unquote(match[3]), known)
        if path.startswith("/cdn/"):
            self.told.append((path, known))
            return 200, self.large[path.removeprefix("/cdn/")]
        if not known:
            return 401, {"error": "Invalid credentials in Authorization header"}
        if path == "/api/repos/create":
            value = json.loads(body)
            repository = f"{value['organization']}/{value['name']}"
            if not repository.startswith("me/"):
                return 403, {"error": "You don't have the rights to create a dataset under this namespace"}
            if repository not in self.commits:
                self.commit(repository, {".gitattributes": b""})
                self.private[repository] = value.get("visibility") == "private"
            return 200, {"url": f"{self.address}/datasets/{repository}"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if match := re.fullmatch(r"/datasets/(\w+/[\w.-]+)\.git/info/lfs/objects/batch", path):
            return 200, {"transfer": "basic", "objects": [self.batched(one) for one in json.loads(body)["objects"]]}
        if match := re.fullmatch(r"/api/datasets/(\w+/[\w.-]+)(?:/(\w+)/(\w+)(?:/(.*))?)?", path):
            if match[1] not in self.commits:
                return 404, {"error": "Repository not found"}
            return self.of_repository(match[1], match[2], match[4] or "", body)
        return 404, {"error": "no such address"}

    def batched(self, one: dict[str, Any]) -> dict[str, Any]:
        there = one["oid"] in self.large
        actions = {"actions": {"upload": {"href": f"{self.address}/lfs/{one['oid']}"}}}
        return {"oid": one["oid"], "size": one["size"], **({} if there else actions)}

    def of_repository(self, repository: str, verb: str | None, rest: str, body: bytes) -> tuple[int, Any]:
        sha, files = self.commits[repository][-1]
        if verb is None or verb == "revision":
            return 200, {"id": repository, "sha": sha, "private": self.private.get(repository, False)}
        if verb == "tree":
            names = sorted(
                {path.removeprefix(f"{rest}/").split("/")[0] for path in files if path.startswith(f"{rest}/")}
            )
            if not names:
                return 404, {"error": "Entry not found", "code": "EntryNotFound"}
            return 200, [{"type": "directory", "path": f"{rest}/{name}", "oid": sha} for name in names]
        if verb == "preupload":
            answers = []
            for one in json.loads(body)["files"]:
                large = one["size"] >= NO_LFS or one["path"].endswith((".safetensors", ".parquet"))
                answers.append(
                    {"path": one["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
                )
            return 200, {"files": answers}
        header, *lines = (json.loads(line) for line in body.splitlines())
        if header["value"].get("parentCommit") not in (None, sha):
            return 412, {"error": "A commit has happened since. Please refresh and try again."}
        new = dict(files)
        for line in lines:
            value = line["value"]
            if line["key"] == "lfsFile":
                if value["oid"] not in self.large:
                    return 400, {"error": "unknown oid"}
                new[value["path"]] = self.large[value["oid"]]
            else:
                new[value["path"]] = base64.b64decode(value["content"])
        sha = self.commit(repository, new)
        return 200, {"commitUrl": f"{self.address}/datasets/{repository}/commit/{sha}", "commitOid": sha}

    def resolved(self, repository: str, revision: str, path: str, known: bool) -> tuple[int, Any]:
        if repository not in self.commits or (self.private.get(repository) and not known):
            return 401, {"error": "Repository not found"}
        commits = dict(self.commits[repository])
        files = self.files(repository) if revision == "main" else commits.get(revision, {})
        if path not in files:
            return 404, {"error": "Entry not found"}
        oid = hashlib.sha256(files[path]).hexdigest()
        return (
            (302, f"{self.address.replace('127.0.0.1', 'localhost')}/cdn/{oid}")
            if oid in self.large
            else (200, files[path])
        )
