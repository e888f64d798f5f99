"""Texts about a published zoo: citation, DataCite, BibTeX, card, Croissant; and names that --anonymous omits."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.support.synthetic import RUN, description, train
from zooforge.storage.canonical import sha256_hex
from zooforge.storage.deposit import weights_table
from zooforge.storage.deposit.parcel import Parcel, parcel_of
from zooforge.storage.deposit.to_store import publish_to_store
from zooforge.storage.errors import StorageUsageError
from zooforge.storage.interchange.copy_zoo import import_zoo
from zooforge.storage.interchange.zip import zip_zoo
from zooforge.storage.keys import copy_key
from zooforge.storage.ops.pull import pull
from zooforge.storage.publish.papers import Credits, bibtex, citation_cff, credits_of, datacite, digest, ranges_text
from zooforge.storage.publish.seal import vectorize
from zooforge.storage.stores.memory import MemoryStore
from zooforge.storage.stores.open import open_store
from zooforge.storage.zoo import Zoo, open_zoo

JANE = Credits(("Doe, Jane", "The Zoo & Co_group"), 2026, "10.5281/zenodo.7")


def test_papers_name_authors_licence_and_the_digest_of_the_manifest(zoo: Zoo) -> None:
    sha256 = digest(zoo.manifest)
    cff = yaml.safe_load(citation_cff(zoo.manifest, JANE, 2))
    assert cff["authors"] == [{"family-names": "Doe", "given-names": "Jane"}, {"name": "The Zoo & Co_group"}]
    assert (cff["type"], cff["license"], cff["version"]) == ("dataset", "CC-BY-4.0", "2")
    assert {entry["value"] for entry in cff["identifiers"]} == {f"sha256:{sha256}", JANE.doi}
    record = json.loads(datacite(zoo.manifest, JANE, 2))
    assert record["publicationYear"] == 2026 and record["rightsList"][0]["rightsIdentifier"] == "CC-BY-4.0"
    assert record["alternateIdentifiers"][0]["alternateIdentifier"] == sha256
    assert credits_of(datacite(zoo.manifest, JANE, 2)) == JANE
    entry = bibtex(zoo.manifest, JANE, 2)
    assert entry.startswith(f"@misc{{tiny-zoo-{sha256[:8]},\n") and sha256 in entry
    assert r"Doe, Jane and {The Zoo \& Co\_group}" in entry and "doi = {10.5281/zenodo.7}" in entry


def test_a_table_of_weights_is_a_configuration_of_the_card_and_goes_with_every_copy(zoo: Zoo) -> None:
    parcel = parcel_of(zoo, JANE, with_weights_table=True)
    assert parcel.weights is not None and parcel == parcel_of(zoo, JANE, with_weights_table=True)
    target, again = MemoryStore(), MemoryStore()
    publish_to_store(parcel, target, "DIR")
    card = target.get("README.md")[0].decode()
    configs = {one["config_name"]: one["data_files"] for one in yaml.safe_load(card.split("---")[1])["configs"]}
    assert configs["weights"] == copy_key(zoo.name, 1, "weights.parquet")
    table = pq.read_table(pa.BufferReader(target.get(configs["weights"])[0]))
    states = zoo.weights(epochs="last")
    assert np.array_equal(np.stack(table["weights"].to_numpy()), states.values, equal_nan=True)
    assert table.drop(["weights"]).equals(states.labels())
    sums = target.get(copy_key(zoo.name, 1, "SHA256SUMS"))[0].decode()
    assert f"{sha256_hex(parcel.weights)}  weights.parquet\n" in sums
    import_zoo(Zoo(target, zoo.manifest, 1, progress=False), again)
    assert again.get(configs["weights"])[0] == parcel.weights
    assert "weights.parquet" not in parcel_of(zoo, JANE).papers(1)


def test_a_table_of_weights_that_is_too_large_is_refused(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_table, "MAX_BYTES", 100)
    with pytest.raises(StorageUsageError, match=r"6 models of .* values are .*, the table holds 100 B"):
        parcel_of(zoo, JANE, with_weights_table=True)


@pytest.mark.parametrize("damaged", [b"", b"[]", b'{"creators": [1]}', b'{"creators": [{"name": ""}]}', b"\xff"])
def test_damaged_credits_count_as_missing(damaged: bytes) -> None:
    assert credits_of(damaged) == Credits()


def test_equal_zoos_have_equal_papers(zoo: Zoo) -> None:
    assert Parcel(zoo, JANE).papers(1) == Parcel(zoo, JANE).papers(1)


def test_a_whole_zoo_says_nothing_of_a_part_and_a_part_says_so_everywhere(zoo: Zoo, tmp_path: Path) -> None:
    texts = ("README.md", "CITATION.cff", "datacite.json", "croissant.json")
    whole = Parcel(zoo, JANE).papers(1)
    assert not any(b"A part of the planned zoo" in whole[name] for name in texts)
    pull(zoo, open_store(str(tmp_path)), epochs=2)
    part = Parcel(open_zoo(tmp_path / "zoos/tiny-zoo"), JANE).papers(1)
    said = b"A part of the planned zoo: 6 of 18 states, 6 of 6 models, weights of epochs 2 of 0:3."
    assert all(said in part[name] for name in texts)


def test_ranges_are_written_as_selectors_read_them() -> None:
    assert ranges_text([0, 1, 2, 5, 7, 8]) == "0:3,5,7:9"


@pytest.mark.parametrize("authors, anonymous", [((" ",), False), (("a\nb",), False), (("A",), True)])
def test_invalid_author_names_are_refused(authors: tuple[str, ...], anonymous: bool) -> None:
    with pytest.raises(StorageUsageError, match="--author"):
        Credits(authors, anonymous=anonymous)


def test_anonymous_papers_and_objects_do_not_identify_their_authors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = "canary7f3a"
    for name in ("USER", "LOGNAME", "HOSTNAME", "HOME", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "HF_TOKEN"):
        monkeypatch.setenv(name, canary)
    source = open_store(str(tmp_path / f"{canary}-bucket"))
    train(source, range(6), 3)
    told = replace(
        description(num_models=6, num_epochs=2), title=f"Zoo of {canary}", source=f"s3://{canary}/x", notes=(canary,)
    )
    vectorize(source, told, RUN)
    source.put(copy_key("tiny-zoo", 1, "origin.json"), f'{{"user": "{canary}"}}'.encode())
    zoo = open_zoo(tmp_path / f"{canary}-bucket/zoos/tiny-zoo")
    named = publish_to_store(parcel_of(zoo, Credits((canary,))), MemoryStore(), "DIR")
    assert named.new
    target = MemoryStore()
    parcel = parcel_of(zoo, Credits(anonymous=True))
    publish_to_store(parcel, target, "DIR")
    for stat in target.list(""):
        assert canary.encode() not in target.get(stat.key)[0], stat.key
        assert canary not in stat.key
    assert any("origin.json" in what for what in parcel.left_out)
    assert zoo.manifest.title == f"Zoo of {canary}", "the zoo itself stays as it is"


def test_the_same_search_sees_the_author_of_a_zoo_that_is_not_anonymous(zoo: Zoo) -> None:
    target = MemoryStore()
    publish_to_store(parcel_of(zoo, Credits(("canary7f3a",))), target, "DIR")
    assert any(b"canary7f3a" in target.get(stat.key)[0] for stat in target.list(""))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_croissant_loads_with_mlcroissant_and_gives_the_labels(zoo: Zoo, tmp_path: Path) -> None:
    mlcroissant: Any = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    publish_to_store(Parcel(zoo, JANE), open_store(str(tmp_path)), str(tmp_path))
    dataset = mlcroissant.Dataset(jsonld=str(tmp_path / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    records = list(dataset.records("labels"))
    assert [record["labels/epoch"] for record in records] == zoo.labels()["epoch"].to_pylist()


def test_everything_that_croissant_requires_is_there(zoo: Zoo) -> None:
    value = json.loads(Parcel(zoo, JANE).papers(3)["croissant.json"])
    assert value["version"] == "3.0.0" and value["creator"][0]["name"] == "Doe, Jane"
    assert digest(zoo.manifest) in value["citeAs"]


def test_copies_of_a_publication_take_its_citation_along(zoo: Zoo, tmp_path: Path) -> None:
    publish_to_store(Parcel(zoo, JANE), open_store(str(tmp_path / "public")), "public")
    public = open_zoo(tmp_path / "public/zoos/tiny-zoo")
    pull(public, open_store(str(tmp_path / "pulled")))
    zip_zoo(public, tmp_path / "zoo.zip")
    import_zoo(open_zoo(tmp_path / "zoo.zip/zoos/tiny-zoo"), open_store(str(tmp_path / "imported")))
    for name in ("CITATION.cff", "datacite.json"):
        key = copy_key("tiny-zoo", 1, name)
        for copy in ("pulled", "imported"):
            assert (tmp_path / copy / key).read_bytes() == (tmp_path / "public" / key).read_bytes()
            assert name in (tmp_path / copy / copy_key("tiny-zoo", 1, "SHA256SUMS")).read_text()


def test_a_pulled_part_has_a_citation_of_its_own_with_the_same_authors(zoo: Zoo, tmp_path: Path) -> None:
    publish_to_store(Parcel(zoo, JANE), open_store(str(tmp_path / "public")), "public")
    pull(open_zoo(tmp_path / "public/zoos/tiny-zoo"), open_store(str(tmp_path / "part")), models="0:2")
    part = open_zoo(tmp_path / "part/zoos/tiny-zoo")
    record = part.store.get(copy_key("tiny-zoo", 1, "datacite.json"))[0]
    assert credits_of(record) == JANE and digest(part.manifest) in record.decode()
    cff = yaml.safe_load(part.store.get(copy_key("tiny-zoo", 1, "CITATION.cff"))[0])
    assert cff["identifiers"][0]["value"] == f"sha256:{digest(part.manifest)}"
    assert "2 of 6 models" in cff["abstract"]
