"""From what a run has committed to a sealed version. No Ray, no torch."""

from storage.object_store import ObjectStore
from storage.publish import Request as PublishRequest
from storage.publish import Version, vectorize

from .describe import describe
from .plan import Request
from .twin import Zoo


def publish(store: ObjectStore, zoo: Zoo, wanted: Request | None = None) -> Version:
    """Seal a version with what was asked for, as far as it is committed, and all that HEAD has already.

    Raises IncompleteRun: nothing is committed yet.
    """
    asked = PublishRequest() if wanted is None else PublishRequest(tuple(wanted.models), wanted.num_epochs)
    return vectorize(store, describe(zoo), zoo.run_id, asked)


def sentence(version: Version) -> str:
    """ "mnist5k-cnn-s version 3: 32 of 2,560 models, 6 of 50 epochs"."""
    manifest = version.manifest
    said = f"{version.zoo} version {version.number}: {manifest.describe()}"
    return said if version.new else f"{said} (nothing new)"
