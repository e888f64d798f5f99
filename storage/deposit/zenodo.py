"""Publish on Zenodo by its deposit API: make a draft, upload its files, read them back, publish only on request.

The keywords of a draft identify it, so a call after a kill continues it. A zoo that has grown becomes a new version of
its record. A record has no folders: the zoo is one zip file, and card, citation and metadata are further files.

Source: developers.zenodo.org, "Depositions", "Deposition files", "Deposition actions", "Files API".
"""

import hashlib
import html
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..canonical import sha256_hex
from ..errors import CredentialsRefused, DigestMismatch, StorageUsageError
from ..interchange.zip import zip_zoo
from ..publish.cards import CITATION, FIGURES, RECORD, WEIGHTS_TABLE
from ..publish.papers import abstract, digest, keywords, title
from ..quantities import human_bytes
from ..stores.environment import check_endpoint, variable
from .parcel import Parcel
from .plan import ZENODO, Plan, plan_of
from .to_store import Published
from .zenodo_client import Draft, ZenodoClient

SERVICES = {
    "zenodo": ("https://zenodo.org", "ZENODO_TOKEN"),
    "zenodo-sandbox": ("https://sandbox.zenodo.org", "ZENODO_SANDBOX_TOKEN"),
}
PAPERS = (CITATION, "LICENSE", "README.md", RECORD, "labels.parquet", "models.parquet", WEIGHTS_TABLE, *FIGURES)
_ENTRY_BYTES = 30 + 46 + 2 * 24  # two headers per member of a zip file, with room for sizes above 4 GiB


class ZenodoTarget:
    """Zenodo, or its sandbox. ``ZENODO_URL`` names another server with the same API."""

    limits = ZENODO

    def __init__(self, name: str, publish_draft: bool = False) -> None:
        """
        Args:
            publish_draft: publish at the end, which cannot be undone; otherwise leave a draft.
        """
        self.name = name
        address, self._variable = SERVICES[name]
        self._address = (variable("ZENODO_URL") or address).rstrip("/")
        check_endpoint(self._address, "ZENODO_URL")
        self._publish = publish_draft

    def plan(self, parcel: Parcel) -> Plan:
        self._check(parcel)
        inside = {ref.key: ref.bytes for ref in parcel.manifest.refs}
        inside |= {key: len(data) for key, data in parcel.files(1)}
        packed = sum(inside.values()) + sum(_ENTRY_BYTES + 2 * len(key) for key in inside)
        papers = parcel.papers(1)
        sizes = {name: len(papers[name]) for name in PAPERS if name in papers}
        sizes |= {f"{parcel.zoo.name}.zip": packed, "croissant.json": 600 * len(inside), "SHA256SUMS": 80 * 9}
        said = f"{parcel.zoo.name}.zip holds {len(inside):,} files; card, citation and metadata are further files"
        return plan_of(parcel.manifest, self.name, sizes, self.limits, left_out=parcel.left_out, packed=said)

    def publish(self, parcel: Parcel, progress: Callable[[int], None]) -> Published:
        """Upload into a draft, read it back, and publish it on request.

        Raises:
            StorageUsageError: no author. CredentialsRefused: no token, or one that is not accepted. StoreRefused: no
            room. DigestMismatch: the service returned other bytes; the upload is a draft that only its owner sees.
        """
        self._check(parcel)
        token = variable(self._variable)
        if not token:
            raise CredentialsRefused(
                f"{self.name}: no token; make one with deposit:write and deposit:actions at {self._address}/account/"
                f"settings/applications/tokens/new/ and put it into {self._variable}"
            )
        client = ZenodoClient(self._address, token, self._variable)
        record = _Record(client, parcel)
        if record.published is not None:
            return self._published(record.published, record.version, False, 0)
        draft = record.draft()
        with TemporaryDirectory(prefix="zooforge-zenodo-") as folder:
            files = written(record.parcel, record.version, Path(folder))
            client.set_metadata(draft, metadata(record.parcel, record.version))
            _upload(client, draft, files, progress)
            for name, path in files.items():
                if client.sha256(draft, name) != _sha256(path):
                    raise DigestMismatch(f"{self.name}: {name} came back with other bytes; the draft was not published")
            num_bytes = sum(path.stat().st_size for path in files.values())
        if self._publish:
            return self._published(client.publish(draft), record.version, True, num_bytes)
        notes = (f"look at it, then publish it there, or by the same command with --yes; its DOI will be {draft.doi}",)
        return Published(draft.page, record.version, True, num_bytes, draft.doi, draft=True, notes=notes)

    def _published(self, record: dict[str, Any], version: int, new: bool, num_bytes: int) -> Published:
        doi = str(record.get("doi") or "")
        page = record.get("links", {}).get("record_html") or f"{self._address}/records/{record['id']}"
        return Published(page, version, new, num_bytes, doi, notes=(f"https://doi.org/{doi}",) if doi else ())

    def _check(self, parcel: Parcel) -> None:
        if not parcel.credits.authors and not parcel.credits.anonymous:
            raise StorageUsageError(f"{self.name}: a record needs authors: --author 'Family, Given', or --anonymous")


class _Record:
    """The zoo's record among the records of the user."""

    def __init__(self, client: ZenodoClient, parcel: Parcel) -> None:
        self.client = client
        ours = [one for one in client.depositions() if _zoo_word(parcel) in _words(one)]
        versions = [one for one in ours if one.get("submitted")]
        same = [one for one in versions if _digest_word(parcel) in _words(one)]
        self.published = same[0] if same else None
        self.version = len(versions) + (self.published is None)
        self._drafts = [one for one in ours if not one.get("submitted")]
        self._latest = max(versions, key=lambda one: int(one["id"]), default=None)
        self.parcel = parcel

    def draft(self) -> Draft:
        """The draft of an earlier call. Without one, a new version of the zoo's record, or a new record."""
        if self._drafts:
            draft = self.client.opened(self._drafts[0]["id"])
        elif self._latest is not None:
            draft = self.client.new_version(self._latest["id"])
        else:
            draft = self.client.create()
        self.parcel = replace(self.parcel, credits=replace(self.parcel.credits, doi=draft.doi))
        # The metadata are sent now, so that a call after a kill recognises the draft by its keywords.
        self.client.set_metadata(draft, metadata(self.parcel, self.version))
        return draft


def metadata(parcel: Parcel, version: int) -> dict[str, Any]:
    """Zenodo's metadata of a record."""
    manifest = parcel.manifest
    words = [*keywords(manifest), _zoo_word(parcel), _digest_word(parcel)]
    text = f"<p>{html.escape(abstract(manifest))}</p><p>zooforge reads {parcel.zoo.name}.zip without unpacking: "
    text += f"<code>zooforge.open_zoo('{parcel.zoo.name}.zip/zoos/{parcel.zoo.name}')</code>.</p>"
    return {
        "title": title(manifest), "upload_type": "dataset", "description": text, "access_right": "open",
        "license": "cc-by-4.0", "creators": [{"name": name} for name in parcel.credits.names(manifest.zoo)],
        "keywords": words, "version": str(version), "prereserve_doi": True,
    }  # fmt: skip


def written(parcel: Parcel, version: int, folder: Path) -> dict[str, Path]:
    """The files of a record, by name, written into ``folder``; equal parcels give equal bytes."""
    packed = f"{parcel.zoo.name}.zip"
    zip_zoo(parcel.zoo, folder / packed, files=parcel.contents(version))
    papers = parcel.papers(version)
    content = {name: papers[name] for name in PAPERS if name in papers}
    content["README.md"] = papers["README.md"].replace(
        f'"URL/zoos/{parcel.zoo.name}")  # URL: a path, s3://bucket/prefix or https://'.encode(),
        f'"{packed}/zoos/{parcel.zoo.name}")'.encode(),
    )
    path = folder / packed
    sha256, size = _sha256(path), path.stat().st_size
    content["croissant.json"] = parcel.packed_croissant(papers["croissant.json"], version, packed, sha256, size)
    sums = {packed: sha256} | {name: sha256_hex(data) for name, data in content.items()}
    content["SHA256SUMS"] = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return {name: folder / name for name in (packed, *content)}


def _upload(client: ZenodoClient, draft: Draft, files: dict[str, Path], progress: Callable[[int], None]) -> None:
    """Make the draft contain exactly ``files``. Files that it already has are not sent again."""
    there = client.files(draft)
    for name in sorted(set(there) - set(files)):
        client.delete(draft, there[name].id)
    for name, path in files.items():
        size = path.stat().st_size
        if name in there and there[name].md5 == _digest(path, "md5") and there[name].size == size:
            progress(size)
            continue
        if client.put(draft, name, path, progress) != _digest(path, "md5"):
            raise DigestMismatch(f"Zenodo: {name} of {human_bytes(size)} arrived with other bytes; run again")


def _zoo_word(parcel: Parcel) -> str:
    """The keyword that all versions of a zoo have in common."""
    return f"zooforge zoo {parcel.zoo.name} {parcel.manifest.run[:16]}"


def _digest_word(parcel: Parcel) -> str:
    return f"zooforge manifest {digest(parcel.manifest)[:32]}"


def _words(deposition: dict[str, Any]) -> list[str]:
    return list((deposition.get("metadata") or {}).get("keywords") or [])


def _sha256(path: Path) -> str:
    return _digest(path, "sha256")


def _digest(path: Path, name: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, name).hexdigest()
