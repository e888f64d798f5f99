"""The request of a job: the object in ``ZOO_REQUEST``, and the zoo, the run and the bounds that follow from it."""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from zooforge.storage.stores.protocol import ObjectStore

from ..catalogue import in_store
from ..errors import InputError
from ..planning.units import request
from ..spec.twins import TwinSpec, Zoo, twins_of
from ..spec.zoo import ZooSpec
from .lives import NO_LIMITS, Limits


class Asked(BaseModel):
    """The request in ``ZOO_REQUEST``. Fields that concern only the cluster are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    models: str | None = None
    epochs: int | None = None
    twin_epochs: int | None = None
    no_twins: bool = False
    single_writer: bool = False
    allow_code: bool = False
    max_dollars: float | None = None
    max_hours: float | None = None
    dollars_per_hour: float | None = None
    spec: str | None = None
    """The YAML of a zoo that the catalogue does not have."""

    @property
    def options(self) -> list[str]:
        """The options of `zoo run` for the same request."""
        options = []
        for name, value in self.model_dump(exclude={"spec"}, exclude_none=True).items():
            option = f"--{name.replace('_', '-')}"
            options += ([option] if value else []) if isinstance(value, bool) else [option, str(value)]
        return options


@dataclass(frozen=True)
class Job:
    """One job of a scheduler: the zoo, the request, and the origin of the job."""

    zoo: ZooSpec
    twins: TwinSpec | None
    name: str
    request: dict[str, Any]
    """The request as it was submitted, for the record."""
    origin: str
    """Namespace and release that submitted it."""
    limits: Limits = NO_LIMITS

    @property
    def stages(self) -> list[Zoo]:
        return [self.zoo, *([self.twins] if self.twins else [])]


def read_request(environment: Mapping[str, str]) -> dict[str, Any]:
    """The object in ``ZOO_REQUEST``; empty without one. Raises InputError: it is not a JSON object."""
    text = environment.get("ZOO_REQUEST") or "{}"
    try:
        request = json.loads(text)
    except ValueError as error:
        raise InputError(f"ZOO_REQUEST is not JSON ({error}): {text[:100]!r}") from None
    if not isinstance(request, dict):
        raise InputError(f"ZOO_REQUEST is not a JSON object: {text[:100]!r}")
    return request


@contextlib.contextmanager
def spec_file(asked: Asked, name: str) -> Iterator[str]:
    """The path of a file with the spec of the request; ``name`` itself where the request has none."""
    if asked.spec is None:
        yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        path.write_text(asked.spec)
        yield str(path)


def job_of(
    store: ObjectStore, name: str, asked: Asked, submitted: dict[str, Any], environment: Mapping[str, str]
) -> Job:
    """The job that ``environment`` describes. Raises InputError: no such zoo, twins, or a request that does not fit."""
    zoo = in_store.resolve(name, store)
    if isinstance(zoo, TwinSpec):
        raise InputError(f"{zoo.name} are the twins of {zoo.parent.name}; submit {zoo.parent.name}")
    wanted = request(zoo, asked.models, asked.epochs)
    has_twins = zoo.sparsify is not None and not asked.no_twins
    return Job(
        zoo,
        twins_of(zoo, source_epoch=wanted.num_epochs) if has_twins else None,
        environment.get("ZOO_JOB", ""),
        submitted,
        environment.get("ZOO_ORIGIN", ""),
        Limits.read(environment),
    )
