"""The requests of Zenodo's deposit API, through urllib3. The token is sent only to the service and never shown."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import urllib3

from ..errors import (
    AccessDenied,
    CredentialsRefused,
    FormatError,
    StorageError,
    StorageUsageError,
    StoreRefused,
    StoreUnreachable,
)
from ..stores.retries import RetryPolicy
from ..stores.web import new_manager, proxy_of

RETRIES = RetryPolicy(300.0, first_pause_seconds=1.0, max_pause_seconds=60.0)
"""Limits count requests per minute; so a pause grows to one."""
TIMEOUT = urllib3.Timeout(connect=30.0, read=600.0)  # the service hashes a large file before it answers
PIECE_BYTES = 1 << 20
PAGE = 100


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a draft, as the service lists it."""

    id: str
    size: int
    md5: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A deposition that is not published. ``bucket`` takes its files; ``doi`` is reserved for it."""

    id: int
    bucket: str
    doi: str
    page: str
    files: tuple[Mapping[str, Any], ...]


class ZenodoClient:
    """One user's depositions at one service."""

    def __init__(self, address: str, token: str, variable: str) -> None:
        """
        Args:
            variable: the environment variable that holds the token, for messages.
        """
        self.address, self._variable = address, variable
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": "zooforge"}
        self._manager = new_manager(proxy_of(address), header_deadline=False)

    def depositions(self) -> Iterator[dict[str, Any]]:
        """All depositions of the user, drafts too, every version."""
        page = 1
        while True:
            depositions = self._json("GET", f"/api/deposit/depositions?size={PAGE}&page={page}&all_versions=true")
            if not isinstance(depositions, list):
                raise FormatError(f"{self.address}: the list of depositions is no list")
            yield from depositions
            if len(depositions) < PAGE:
                return
            page += 1

    def create(self) -> Draft:
        return self._draft(self._json("POST", "/api/deposit/depositions", {}))

    def opened(self, number: int) -> Draft:
        return self._draft(self._json("GET", f"/api/deposit/depositions/{int(number)}"))

    def new_version(self, number: int) -> Draft:
        """The draft of the next version of a published deposition."""
        answer = self._json("POST", f"/api/deposit/depositions/{int(number)}/actions/newversion")
        return self._draft(self._json("GET", self._ours(answer["links"]["latest_draft"])))

    def set_metadata(self, draft: Draft, metadata: Mapping[str, Any]) -> None:
        self._json("PUT", f"/api/deposit/depositions/{draft.id}", {"metadata": metadata})

    def files(self, draft: Draft) -> dict[str, StoredFile]:
        """The draft's files now, by name."""
        files = self.opened(draft.id).files
        return {
            str(file["filename"]): StoredFile(
                str(file["id"]), int(file["filesize"]), str(file["checksum"]).removeprefix("md5:")
            )
            for file in files
        }

    def delete(self, draft: Draft, file_id: str) -> None:
        self._json("DELETE", f"/api/deposit/depositions/{draft.id}/files/{quote(file_id, safe='')}")

    def put(self, draft: Draft, name: str, path: Path, progress: Callable[[int], None]) -> str:
        """Upload a file. Returns the MD5 that the service computed."""
        size = path.stat().st_size

        def attempt() -> Any:
            sent = 0

            def count(number: int) -> None:
                nonlocal sent
                sent += number
                progress(number)

            with path.open("rb") as file:
                try:
                    return self._once("PUT", f"{draft.bucket}/{quote(name)}", _Counted(file, count), size)
                except StorageError:
                    progress(-sent)
                    raise

        answer = RETRIES.call(attempt)
        return str(answer.get("checksum", "")).removeprefix("md5:")

    def sha256(self, draft: Draft, name: str) -> str:
        """SHA-256 of the bytes that the service returns for a file."""
        digest: str = RETRIES.call(lambda: self._once("GET", f"{draft.bucket}/{quote(name)}", None, 0, hashed=True))
        return digest

    def publish(self, draft: Draft) -> dict[str, Any]:
        answer: dict[str, Any] = self._json("POST", f"/api/deposit/depositions/{draft.id}/actions/publish")
        return answer

    def _draft(self, value: Any) -> Draft:
        try:
            links, reserved = value["links"], value["metadata"].get("prereserve_doi") or {}
            page = links.get("html") or f"{self.address}/deposit/{value['id']}"
            files = tuple(value.get("files") or ())
            return Draft(int(value["id"]), self._ours(links["bucket"]), str(reserved.get("doi", "")), page, files)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise FormatError(f"{self.address}: the answer is no deposition") from None

    def _ours(self, url: str) -> str:
        """An address that the service gave. Raises StoreRefused for another host, which must not get the token."""
        if urlsplit(url)[:2] != urlsplit(self.address)[:2]:
            raise StoreRefused(f"{self.address}: it names another host, {urlsplit(url).netloc}; the token stays here")
        return url

    def _json(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        return RETRIES.call(lambda: self._once(method, path, data, len(data or b"")))

    def _once(self, method: str, path: str, body: Any, size: int, hashed: bool = False) -> Any:
        url = path if "://" in path else f"{self.address}{path}"
        headers = dict(self._headers)
        if body is not None:
            kind = "application/json" if isinstance(body, bytes) else "application/octet-stream"
            headers |= {"Content-Type": kind, "Content-Length": str(size)}
        try:
            answer = self._manager.request(
                method, url, body=body, headers=headers, redirect=False, retries=False, preload_content=False,
                timeout=TIMEOUT,
            )  # fmt: skip
            try:
                if hashed and answer.status == 200:
                    return _hashed(answer)
                data, status = answer.read(PIECE_BYTES * 64), answer.status
            finally:
                answer.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            failure = StoreUnreachable(f"{self.address}: {type(error).__name__}; check the network, and run again")
            failure.transient = True
            raise failure from None
        if 200 <= status < 300:
            return _parsed(data) if data else None
        raise self._failure(status, _parsed(data))

    def _failure(self, status: int, answer: Any) -> StorageError:
        said = str(answer.get("message", "")) if isinstance(answer, dict) else ""
        said = " ".join(said.split())[:200]
        if status == 401:
            return CredentialsRefused(
                f"{self.address}: the token in {self._variable} is not accepted: it has expired, or is of the other "
                f"service; make a new one at {self.address}/account/settings/applications/tokens/new/"
            )
        if status == 403:
            return AccessDenied(
                f"{self.address}: the token in {self._variable} may not do this; it needs deposit:write and "
                f"deposit:actions {said}".rstrip()
            )
        if status == 413 or "quota" in said.lower():
            return StoreRefused(
                f"{self.address}: no room for this file ({said or status}); a record takes 50 GB: publish a part, or "
                "ask Zenodo for more"
            )
        if status == 400:
            errors = answer.get("errors") or [] if isinstance(answer, dict) else []
            fields = "; ".join(f"{e.get('field')}: {e.get('message') or e.get('messages')}" for e in errors[:3])
            return StorageUsageError(f"{self.address}: refused: {said} {fields}".rstrip())
        failure = StoreUnreachable(
            f"{self.address}: the service answers {status} {said}".rstrip() + "; run again later"
        )
        failure.transient = status in (408, 425, 429) or status >= 500
        return failure


class _Counted:
    """A file that counts the bytes read from it."""

    def __init__(self, file: Any, count: Callable[[int], None]) -> None:
        self._file, self._count = file, count

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(size)
        self._count(len(data))
        return data


def _hashed(answer: urllib3.BaseHTTPResponse) -> str:
    digest = hashlib.sha256()
    while piece := answer.read(PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return {}
