"""Publish on the Hugging Face Hub: upload large files, make one commit that names all files, read it back.

Uploaded files are invisible until a commit names them. So a call after a kill continues, and readers see the data set
either as it was before the commit or as it is after it.

Source: huggingface.co/docs/huggingface_hub, "Upload files to the Hub" (preupload_lfs_files, create_commit).
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import (
    AccessDenied,
    CredentialsRefused,
    DigestMismatch,
    StorageError,
    StoreRefused,
    StoreUnreachable,
    StoreURLError,
    Superseded,
    import_optional,
)
from ..interchange.hub_folder import ATTRIBUTES
from ..keys import zoo_prefix
from ..publish.head import check_copy, read_current, states_of
from ..publish.papers import digest
from ..stores.environment import check_endpoint, variable
from ..stores.hub import ENDPOINT, hub_token
from ..stores.objects import get_object
from ..stores.web import WebStore
from .parcel import Parcel
from .plan import HUB, Plan, plan_of
from .to_store import Published, store_sizes

_NAME = re.compile(r"hf:(?://)?(?:datasets/)?(?P<name>[\w.-]+/[\w.-]+)/?")
_KIND = "dataset"


class HubTarget:
    """The data set OWNER/NAME on the Hub. ``HF_ENDPOINT`` names another server with the same API."""

    limits = HUB

    def __init__(self, address: str, private: bool = False) -> None:
        match = _NAME.fullmatch(address)
        if match is None:
            raise StoreURLError(f"--to {address}: expected hf:OWNER/NAME, a data set on the Hub")
        self.name, self.repository, self._private = f"hf:{match['name']}", match["name"], private
        self._endpoint = (variable("HF_ENDPOINT") or ENDPOINT).rstrip("/")
        check_endpoint(self._endpoint, "HF_ENDPOINT")

    def plan(self, parcel: Parcel) -> Plan:
        sizes = store_sizes(parcel, 1, self.repository) | {".gitattributes": len(ATTRIBUTES)}
        return plan_of(parcel.manifest, self.name, sizes, self.limits, left_out=parcel.left_out)

    def publish(self, parcel: Parcel, progress: Callable[[int], None]) -> Published:
        """Upload, commit, read back.

        Raises:
            CredentialsRefused, AccessDenied: no token, or one that may not write there. StorageUsageError: another zoo
            has the name there, or a version that holds more. Superseded: others committed meanwhile. DigestMismatch.
        """
        package = _client()
        token = hub_token()
        if not token:
            raise CredentialsRefused(
                f"{self.name}: no token; make one that may write at {ENDPOINT}/settings/tokens and put it into "
                "HF_TOKEN, or run `hf auth login`"
            )
        package.utils.disable_progress_bars()  # ``progress`` is the only progress bar
        zoo, manifest = parcel.zoo, parcel.manifest
        api = package.HfApi(endpoint=self._endpoint, token=token, library_name="zooforge")
        with _one_line(self.name):
            parent = self._repository(api, package)
            store = self._store(parent, token)
            head, current = read_current(store, zoo.name)
            address = f"hf://{self.repository}/zoos/{zoo.name}"
            if head is not None and head.manifest_sha256 == digest(manifest):
                return Published(address, head.number, False, 0)
            check_copy(store, manifest, states_of(manifest), zoo.models, current, "publish into another data set")
            number = 1 if head is None else head.number + 1
            known = set() if current is None else set(current.refs)
            papers = self._papers(parcel, number, self._others(api, package, parent, zoo.name))
            operations = []
            for ref in manifest.refs:
                if ref not in known:
                    data = get_object(zoo.store, ref, f"zoo {zoo.name!r}")
                    operations.append(package.CommitOperationAdd(path_in_repo=ref.key, path_or_fileobj=data))
                    # Uploaded one by one, so that only one object is in memory. Nothing is visible before the commit.
                    api.preupload_lfs_files(self.repository, operations[-1:], repo_type=_KIND)
                progress(ref.bytes)
            for path, data in papers.items():
                operations.append(package.CommitOperationAdd(path_in_repo=path, path_or_fileobj=data))
            commit = api.create_commit(
                self.repository, operations, repo_type=_KIND, parent_commit=parent,
                commit_message=f"Publish {zoo.name} version {number}",
            )  # fmt: skip
        _read_back(self._store(commit.oid, token), parcel, papers)
        num_bytes = sum(ref.bytes for ref in manifest.refs) + sum(map(len, papers.values()))
        notes = (f"hf://{self.repository}@{commit.oid}/zoos/{zoo.name} names this version for good",)
        return Published(address, number, True, num_bytes, notes=notes)

    def _repository(self, api: Any, package: Any) -> str:
        """The newest commit of the data set, which is created if it does not exist."""
        try:
            return str(api.dataset_info(self.repository).sha)
        except package.errors.RepositoryNotFoundError as error:
            if isinstance(error, package.errors.GatedRepoError):
                raise
        api.create_repo(self.repository, repo_type=_KIND, private=self._private, exist_ok=True)
        return str(api.dataset_info(self.repository).sha)

    def _store(self, revision: str, token: str) -> WebStore:
        return WebStore(f"{self._endpoint}/datasets/{self.repository}/resolve/{revision}", token=token)

    def _others(self, api: Any, package: Any, parent: str, zoo: str) -> list[str]:
        """Folders of other zoos in the data set."""
        try:
            folders = api.list_repo_tree(self.repository, "zoos", repo_type=_KIND, revision=parent)
            return [entry.path for entry in folders if f"{entry.path}/" != zoo_prefix(zoo)]
        except package.errors.EntryNotFoundError:
            return []

    def _papers(self, parcel: Parcel, number: int, others: list[str]) -> dict[str, bytes]:
        """All files except the objects. Files at the root are left out if the data set has other zoos."""
        root = {} if others else parcel.root_files(number, self.repository)
        return {".gitattributes": ATTRIBUTES.encode(), **dict(parcel.files(number)), **root}


def _read_back(store: WebStore, parcel: Parcel, papers: dict[str, bytes]) -> None:
    """Raises DigestMismatch or ObjectMissing if the commit holds other bytes than were sent."""
    for path, data in papers.items():
        if not path.startswith(".") and store.get(path)[0] != data:
            raise DigestMismatch(f"{store.url}: {path} came back with other bytes; revert this commit on the Hub")
    for ref in parcel.manifest.refs:
        get_object(store, ref, f"{store.url}, read back")


def _client() -> Any:
    """The package huggingface_hub with the modules that are used here; it does not import them by itself."""
    for name in ("errors", "utils"):
        import_optional(f"huggingface_hub.{name}", "'zooforge[hub]'")
    return import_optional("huggingface_hub", "'zooforge[hub]'")


@contextmanager
def _one_line(target: str) -> Iterator[None]:
    """Turn errors of the client into ours, in one line."""
    try:
        yield
    except StorageError:
        raise
    # Errors of its HTTP library have no common base, and its versions use different libraries.
    except Exception as error:
        raise _failure(target, error) from None


def _failure(target: str, error: BaseException) -> StorageError:
    cause: BaseException | None = error
    while cause is not None and getattr(cause, "response", None) is None:
        cause = cause.__cause__
    response = getattr(cause, "response", None)
    said = " ".join(str(getattr(cause, "server_message", None) or error).split())[:200]
    match getattr(response, "status_code", None):
        case 401:
            return CredentialsRefused(
                f"{target}: the token in HF_TOKEN or of `hf auth login` is not accepted, or has expired; make one that "
                f"may write at {ENDPOINT}/settings/tokens"
            )
        case 402 | 403:
            return AccessDenied(
                f"{target}: refused ({said}); the token must be allowed to write there, and the account to hold so much"
            )
        case 409 | 412:
            return Superseded(f"{target}: others changed the data set meanwhile; run again ({said})")
        case 413:
            return StoreRefused(f"{target}: too large for the Hub ({said}); publish a part, e.g. --epochs last")
        case 429:
            return StoreUnreachable(f"{target}: too many requests; run again later, what was uploaded is kept")
        case None:
            return StoreUnreachable(f"{target}: {type(error).__name__} ({said}); check the network, and run again")
        case status:
            return StoreUnreachable(f"{target}: the Hub answers {status} ({said}); run again later")
