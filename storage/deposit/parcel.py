"""The content of a publication: objects and manifest of a zoo, and new metadata files that do not name its store."""

import html
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from ..canonical import canonical_json
from ..formats.index_dict import index_dict
from ..formats.manifest import Manifest
from ..interchange.hub_folder import AT_ROOT, root_copy
from ..interchange.zip import described, head_of
from ..keys import copy_key, head_key, manifest_key, version_prefix
from ..ops.pull import pull
from ..publish.cards import LICENSE, WEIGHTS_TABLE, card, carried_files, checksums, croissant, pretty
from ..publish.papers import LICENCE_URL, Credits, abstract, bibtex, citation_files, part_sentence
from ..read.selection import Selector
from ..stores.local import LocalStore
from ..stores.objects import get_object
from ..zoo import Zoo
from .weights_table import weights_table


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture for the card: one of the names of ``FIGURES``, PNG, and what it shows in words."""

    name: str
    data: bytes
    alt: str


@dataclass(frozen=True)
class Parcel:
    """A zoo as it is published.

    Attributes:
        zoo: the zoo, or the part of it; anonymous if that was asked for.
        carried: files of the version that cannot be made again, by name.
        images_licence: of the images, for the card.
        left_out: what is not published, and why.
        figures: of the card.
        weights: the table of ``weights_table``; None if it is not published.
    """

    zoo: Zoo
    credits: Credits = field(default_factory=Credits)
    carried: Mapping[str, bytes] = field(default_factory=dict)
    images_licence: str = ""
    left_out: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    weights: bytes | None = None

    @property
    def manifest(self) -> Manifest:
        return self.zoo.manifest

    def papers(self, version: int) -> dict[str, bytes]:
        """The files in the folder of the manifest of ``version``, by name, the tables included."""
        manifest, description, owner = self.manifest, described(self.manifest), f"zoo {self.zoo.name!r}"
        metadata = croissant(description, manifest) | {
            "description": f"{manifest.title or manifest.zoo}. {abstract(manifest)}",
            "creator": [{"@type": "Person", "name": name} for name in self.credits.names(manifest.zoo)],
            "version": f"{version}.0.0",
            "citeAs": bibtex(manifest, self.credits, version),
            "license": LICENCE_URL,
        }
        tables = ("labels",) if self.weights is None else ("labels", "weights")
        papers = {
            **self.carried,
            "README.md": card(description, manifest, self._first(), self._last(version), tables).encode(),
            "LICENSE": LICENSE.encode(),
            **citation_files(manifest, self.credits, version),
            **{figure.name: figure.data for figure in self.figures},
            "croissant.json": pretty(metadata),
            "labels.parquet": get_object(self.zoo.store, manifest.labels.ref, owner),
            "models.parquet": get_object(self.zoo.store, manifest.model_table.ref, owner),
        }
        if self.weights is not None:
            papers[WEIGHTS_TABLE] = self.weights
        index = index_dict(manifest.layout, manifest.state_dict_names.get("plain", {}))
        if index is not None:
            papers["index_dict.json"] = pretty(index)
        papers["SHA256SUMS"] = checksums(manifest, papers).encode()
        return dict(sorted(papers.items()))

    def files(self, version: int) -> Iterator[tuple[str, bytes]]:
        """Keys and bytes of a store that holds this version alone, without the objects."""
        data = self.manifest.to_json()
        yield head_key(self.zoo.name), canonical_json(head_of(version, data))
        yield manifest_key(self.zoo.name, version), data
        for name, content in self.papers(version).items():
            yield copy_key(self.zoo.name, version, name), content

    def contents(self, version: int) -> Iterator[tuple[str, bytes]]:
        """``files``, then the objects, each checked."""
        yield from self.files(version)
        for ref in sorted(self.manifest.refs, key=lambda ref: ref.key):
            yield ref.key, get_object(self.zoo.store, ref, f"zoo {self.zoo.name!r}")

    def packed_croissant(self, metadata: bytes, version: int, packed: str, sha256: str, num_bytes: int) -> bytes:
        """Croissant ``metadata`` of a zoo whose files are in one zip file with the name ``packed``."""
        value = json.loads(metadata)
        archive = {
            "@type": "cr:FileObject", "@id": packed, "name": packed, "contentUrl": packed, "sha256": sha256,
            "contentSize": f"{num_bytes} B", "encodingFormat": "application/zip",
        }  # fmt: skip
        inside = json.loads(root_copy("croissant.json", metadata, version_prefix(self.zoo.name, version), "", None))
        value["distribution"] = [archive, *(f | {"containedIn": {"@id": packed}} for f in inside["distribution"])]
        return pretty(value)

    def root_files(self, version: int, repository: str | None = None) -> dict[str, bytes]:
        """Card, citation and metadata for the root of the folder or data set, with paths relative to it."""
        prefix = version_prefix(self.zoo.name, version)
        papers = self.papers(version)
        named = {name: papers[name] for name in AT_ROOT if name in papers}
        return {name: root_copy(name, data, prefix, self.zoo.name, repository) for name, data in named.items()}

    def _first(self) -> str:
        part = part_sentence(self.manifest)
        return f"**{part}**\n\n" if part else ""

    def _last(self, version: int) -> str:
        here = self.manifest.images is not None and self.images_licence
        images = f"- the images that the models were evaluated on: {self.images_licence}\n" if here else ""
        cite = f"## Cite it\n\n```bibtex\n{bibtex(self.manifest, self.credits, version)}```\n"
        return f"{images}\n{_accuracies(self.zoo, self.figures)}{cite}\n"


def parcel_of(
    zoo: Zoo,
    credits: Credits,
    *,
    images: bool = False,
    images_licence: str = "",
    why_not: str = "",
    figures: tuple[Figure, ...] = (),
    with_weights_table: bool = False,
) -> Parcel:
    """The content of a publication of ``zoo``.

    Args:
        images: whether ``images.safetensors``, if the version has it, is published.
        images_licence: of these images, in words.
        why_not: why they are not published.
        figures: of the card.
        with_weights_table: whether ``weights.parquet`` is made and published.
    """
    carried = carried_files(zoo.store, zoo.name, zoo.version)
    left_out = []
    if zoo.manifest.images is not None and not images:
        zoo = Zoo(zoo.store, replace(zoo.manifest, images=None), zoo.version, progress=False)
        left_out.append(f"images: {why_not or 'not asked for'}")
    if credits.anonymous:
        left_out += [f"{name}: --anonymous, and it was written elsewhere" for name in sorted(carried)]
        carried = {}
        zoo = Zoo(zoo.store, anonymised(zoo.manifest), zoo.version, progress=False)
        left_out.append("title, source and notes of the manifest: --anonymous")
    weights = weights_table(zoo) if with_weights_table else None
    return Parcel(zoo, credits, carried, images_licence, tuple(left_out), figures, weights)


def anonymised(manifest: Manifest) -> Manifest:
    """The manifest without the texts that people wrote. References to weights, labels and names stay."""
    name = f"Model zoo of {manifest.architecture['name']} on {manifest.dataset}"
    return replace(manifest, title=name, source="left out", notes=())


def slice_of(zoo: Zoo, folder: Path, epochs: Selector, models: Selector, split: str | None, where: str | None) -> Zoo:
    """The selected states as a zoo of their own, in ``folder``. Raises the errors of ``pull``."""
    store = LocalStore(folder)
    pulled = pull(zoo, store, epochs=epochs, models=models, split=split, where=where)
    return Zoo(store, pulled.manifest, pulled.number, progress=False)


def _accuracies(zoo: Zoo, figures: tuple[Figure, ...]) -> str:
    """Pictures, and a table of the test accuracy or the PSNR of finite models at five epochs; empty where none was
    measured."""
    metric, title, factor, unit = ("test_acc", "Test accuracy", 100, "%") if zoo.manifest.task is None else (
        "psnr", "PSNR of the images", 1, "dB")  # fmt: skip
    labels = zoo.labels(columns=["epoch", metric])
    labels = labels.filter(pc.is_valid(labels[metric]))
    epochs, accuracy = labels["epoch"].to_numpy(), labels[metric].to_numpy()
    there = np.unique(epochs)
    if not len(there):
        return ""
    chosen = there[np.unique(np.linspace(0, len(there) - 1, 5).round().astype(int))]
    # Pictures of a fixed width stand side by side on a wide screen and below each other on a phone.
    pictures = [f'<img src="{one.name}" width="360" alt="{html.escape(one.alt)}">' for one in figures]
    lines = [f"## {title}\n", *pictures, ""] if pictures else [f"## {title}\n"]
    lines += ["| epoch | models | lowest | median | highest |", "|--|--|--|--|--|"]
    for epoch in chosen:
        here = accuracy[epochs == epoch]
        low, middle, high = (f"{factor * value:.1f} {unit}" for value in (here.min(), np.median(here), here.max()))
        lines.append(f"| {epoch} | {len(here):,} | {low} | {middle} | {high} |")
    return "\n".join(lines) + "\n\n"
