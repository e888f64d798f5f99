"""Publishes what a run has committed as a sealed version. No Ray, no torch."""

import logging
import os
from typing import Any

from zooforge.storage.errors import IncompleteRun, StorageError
from zooforge.storage.formats.compression import CompressionName
from zooforge.storage.keys import zoo_url
from zooforge.storage.ops.remove import check_not_removed
from zooforge.storage.ops.verify import Verification, added_shards, verify_zoo
from zooforge.storage.publish.head import read_spec
from zooforge.storage.publish.seal import Request as PublishRequest
from zooforge.storage.publish.seal import Version, vectorize
from zooforge.storage.runs.publications import note_publication, read_publication
from zooforge.storage.runs.run_files import add_usage, read_attempts
from zooforge.storage.stores.protocol import ObjectStore
from zooforge.storage.zoo import open_zoo

from ..errors import InputError
from ..planning.units import Request
from ..spec.twins import Zoo
from ..who import who
from .describe import describe

logger = logging.getLogger(__name__)

READ_BACK_BYTES = 100_000_000_000


def publish(
    store: ObjectStore,
    zoo: Zoo,
    wanted: Request | None = None,
    compression: CompressionName | None = None,
    images: memoryview | None = None,
) -> Version:
    """Seal a version with the committed part of the request and everything that the current version has.

    Args:
        wanted: the request; None for the whole zoo. The run notes who published, or why it was refused.
        compression: of the shards; None for that of the spec, else of the current version.
        images: the images that the models saw, as ``encoded_images`` gives them; None for those of the current version.

    Raises:
        IncompleteRun: nothing is committed yet.
        InputError: the store's zoo of this name now belongs to another run.
        StorageError: the zoo was removed meanwhile.
    """
    _check_lineage(store, zoo)
    asked = PublishRequest() if wanted is None else PublishRequest(tuple(wanted.models), wanted.num_epochs)
    try:
        version = vectorize(store, describe(zoo), zoo.run_id, asked, compression=compression, images=images)
    except IncompleteRun:
        raise
    except StorageError as error:
        _note(store, zoo, {"refused": str(error)})
        raise
    last = read_publication(store, zoo.run_id)
    if version.new or (last is not None and last.refused):
        _note(store, zoo, {"version": version.number})
    check_not_removed(store, zoo.name, zoo.run_id)
    return version


def _note(store: ObjectStore, zoo: Zoo, what: dict[str, Any]) -> None:
    """Note what came of a publication, and who did it. A store that takes no note changes nothing about it."""
    try:
        note_publication(store, zoo.run_id, {**who(os.environ), **what})
    except StorageError:
        logger.warning("who published is not noted", exc_info=True)


def _check_lineage(store: ObjectStore, zoo: Zoo) -> None:
    """Refuse to replace a zoo that was begun again by states of an earlier run with the same name."""
    spec = read_spec(store, zoo.name)
    run = None if spec is None else spec.content.get("run")
    if run not in (None, zoo.run_id):
        raise InputError(
            f"{zoo.name} in {store.url} is of run {str(run)[:8]}, this spec of {zoo.run_id[:8]}: an earlier lineage, "
            "which would replace the newer one; `zoo train --new-lineage` with this spec makes it the current one again"
        )


def read_back(store: ObjectStore, store_url: str, zoo: Zoo) -> Verification:
    """Check every byte of the shards that the newest version added; above 100 GB, of a sample of them.

    The run's usage counts the model-epochs that were checked.
    """
    published = open_zoo(zoo_url(store_url, zoo.name))
    shards = added_shards(published, READ_BACK_BYTES)
    verification = verify_zoo(published, shards=shards)
    ended = [attempt.id for attempt in read_attempts(store, zoo.run_id) if attempt.end is not None]
    if ended:
        add_usage(store, zoo.run_id, ended[-1], {"verified_epochs": verification.num_states})
    return verification


def sentence(version: Version) -> str:
    """ "mnist5k-cnn-s version 3: 32 of 2,560 models, 6 of 50 epochs"."""
    manifest = version.manifest
    text = f"{version.zoo} version {version.number}: {manifest.describe()}"
    return text if version.new else f"{text} (nothing new)"
