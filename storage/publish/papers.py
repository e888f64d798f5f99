"""Citations of a zoo: CITATION.cff, DataCite's JSON, BibTeX. Pure.

All of it follows from the manifest and from ``Credits``, which hold what no manifest has: authors, a year, a DOI.

Sources: citation-file-format.github.io 1.2.0; schema.datacite.org, kernel 4.
"""

import json
from dataclasses import dataclass
from typing import Any

from ..canonical import sha256_hex
from ..errors import StorageUsageError
from ..formats.manifest import Manifest
from ..formats.shards import from_ranges
from .cards import CITATION, RECORD, pretty, yaml_text

LICENCE_URL = "https://creativecommons.org/licenses/by/4.0/"


@dataclass(frozen=True, slots=True)
class Credits:
    """Authors, year and DOI of a publication.

    Attributes:
        authors: "Family, Given" of a person, or the name of a group; empty: "The makers of ZOO".
        anonymous: name nobody.
    """

    authors: tuple[str, ...] = ()
    year: int | None = None
    doi: str = ""
    anonymous: bool = False

    def __post_init__(self) -> None:
        if self.anonymous and self.authors:
            raise StorageUsageError("--author and --anonymous contradict each other; give one of them")
        for author in self.authors:
            if not author.strip() or not author.isprintable():
                raise StorageUsageError(f"--author {author!r}: expected 'Family, Given' or the name of a group")

    def names(self, zoo: str) -> tuple[str, ...]:
        return ("Anonymous",) if self.anonymous else self.authors or (f"The makers of {zoo}",)


def digest(manifest: Manifest) -> str:
    """SHA-256 of the manifest, which names every byte of the zoo."""
    return sha256_hex(manifest.to_json())


def part_sentence(manifest: Manifest) -> str:
    """A sentence that names the part of the planned zoo that a version holds; empty if it holds all of it."""
    planned = manifest.planned_models * (manifest.planned_epochs + 1)
    if manifest.num_states >= planned:
        return ""
    epochs = sorted({e for shard in manifest.shards for ranges, _ in shard.rows for e in from_ranges(ranges)})
    return (
        f"A part of the planned zoo: {manifest.num_states:,} of {planned:,} states, {manifest.num_models:,} of "
        f"{manifest.planned_models:,} models, weights of epochs {ranges_text(epochs)} of "
        f"0:{manifest.planned_epochs + 1}."
    )


def ranges_text(numbers: list[int]) -> str:
    """Ascending numbers as selectors write them, half-open: ``0:7,50``."""
    pieces: list[list[int]] = []
    for number in numbers:
        if pieces and pieces[-1][1] == number:
            pieces[-1][1] += 1
        else:
            pieces.append([number, number + 1])
    return ",".join(str(start) if stop == start + 1 else f"{start}:{stop}" for start, stop in pieces)


def title(manifest: Manifest) -> str:
    return manifest.title or f"Model zoo {manifest.zoo}"


def abstract(manifest: Manifest) -> str:
    """A summary of the zoo, as one line of text."""
    text = (
        f"{manifest.describe()} of {manifest.architecture['name']} on {manifest.dataset}: {manifest.num_states:,} "
        f"states of {manifest.layout.size:,} weights, each with its labels. {part_sentence(manifest)} "
        f"Source: {manifest.source}"
    )
    return " ".join(text.split())


def citation_cff(manifest: Manifest, credits: Credits, version: int) -> bytes:
    """CITATION.cff of a data set."""
    lines = [
        "cff-version: 1.2.0",
        "message: If you use this zoo, please cite it, and what it names as its source.",
        "type: dataset",
        f"title: {yaml_text(title(manifest))}",
        f"abstract: {yaml_text(abstract(manifest))}",
        f"version: {yaml_text(str(version))}",
        "license: CC-BY-4.0",
        "authors:",
    ]
    for name in credits.names(manifest.zoo):
        family, comma, given = (piece.strip() for piece in name.partition(","))
        if comma and family and given:
            lines += [f"  - family-names: {yaml_text(family)}", f"    given-names: {yaml_text(given)}"]
        else:
            lines += [f"  - name: {yaml_text(name)}"]
    lines += ["keywords:", *(f"  - {yaml_text(word)}" for word in keywords(manifest))]
    lines += ["identifiers:", "  - type: other", f'    value: "sha256:{digest(manifest)}"']
    lines += ["    description: SHA-256 of the manifest"]
    if credits.doi:
        lines += ["  - type: doi", f"    value: {yaml_text(credits.doi)}"]
    return ("\n".join(lines) + "\n").encode()


def keywords(manifest: Manifest) -> list[str]:
    return ["model zoo", "weight space learning", manifest.architecture["name"], manifest.dataset]


def citation_files(manifest: Manifest, credits: Credits, version: int) -> dict[str, bytes]:
    """CITATION.cff and DataCite's record, by name."""
    return {CITATION: citation_cff(manifest, credits, version), RECORD: datacite(manifest, credits, version)}


def datacite(manifest: Manifest, credits: Credits, version: int) -> bytes:
    """DataCite's metadata as JSON; ``publicationYear`` and ``doi`` only where they are known."""
    value: dict[str, Any] = {
        "schemaVersion": "http://datacite.org/schema/kernel-4",
        "types": {"resourceTypeGeneral": "Dataset", "resourceType": "Model zoo"},
        "titles": [{"title": title(manifest)}],
        "creators": [{"name": name} for name in credits.names(manifest.zoo)],
        "descriptions": [{"description": abstract(manifest), "descriptionType": "Abstract"}],
        "subjects": [{"subject": word} for word in keywords(manifest)],
        "version": str(version),
        "language": "en",
        "formats": ["application/vnd.safetensors", "application/vnd.apache.parquet", "application/json"],
        "sizes": [f"{sum(ref.bytes for ref in manifest.refs)} B", f"{len(manifest.refs)} objects"],
        "rightsList": [
            {
                "rights": "Creative Commons Attribution 4.0 International",
                "rightsURI": LICENCE_URL,
                "rightsIdentifier": "CC-BY-4.0",
                "rightsIdentifierScheme": "SPDX",
                "schemeURI": "https://spdx.org/licenses/",
            }
        ],
        "alternateIdentifiers": [
            {"alternateIdentifier": digest(manifest), "alternateIdentifierType": "SHA-256 of the manifest"}
        ],
    }
    if credits.year is not None:
        value["publicationYear"] = credits.year
    if credits.doi:
        value["doi"] = credits.doi
    return pretty(value)


def credits_of(data: bytes) -> Credits:
    """Authors, year and DOI of what ``datacite`` wrote; empty credits for anything else."""
    try:
        value = json.loads(data)
        names = tuple(str(creator["name"]) for creator in value["creators"])
        year = value.get("publicationYear")
        return Credits(names, year if isinstance(year, int) else None, str(value.get("doi", "")))
    except (ValueError, KeyError, TypeError, AttributeError, StorageUsageError):
        return Credits()


def bibtex(manifest: Manifest, credits: Credits, version: int) -> str:
    """An entry whose note holds the digest of the manifest: it names exactly these bytes."""
    sha256 = digest(manifest)
    names = credits.names(manifest.zoo)
    authors = " and ".join(_bibtex(name) if "," in name else f"{{{_bibtex(name)}}}" for name in names)
    note = f"Model zoo {manifest.zoo}, run {manifest.run}, manifest SHA-256 {sha256}. {part_sentence(manifest)}"
    fields = {
        "title": f"{{{_bibtex(title(manifest))}}}",
        "author": authors,
        "version": str(version),
        "note": _bibtex(note.strip()),
    }
    if credits.year is not None:
        fields["year"] = str(credits.year)
    if credits.doi:
        fields |= {"doi": credits.doi, "url": f"https://doi.org/{credits.doi}"}
    lines = ",\n".join(f"  {name} = {{{text}}}" for name, text in fields.items())
    return f"@misc{{{manifest.zoo}-{sha256[:8]},\n{lines}\n}}\n"


def _bibtex(text: str) -> str:
    """Text without the characters that BibTeX takes for its own."""
    escaped = {"\\": r"\textbackslash{}"} | {character: f"\\{character}" for character in "{}#%&$_"}
    return "".join(escaped.get(character, character) for character in text)
