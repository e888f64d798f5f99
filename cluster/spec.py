"""The place and the settings of a release, and the request of a submission. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from .errors import ClusterError, NotInstalled

DEFAULT_RELEASE = "zooforge"
PREFIX = "zooforge.io"
Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """A release in a namespace."""

    namespace: str
    release: str = DEFAULT_RELEASE

    @property
    def runs_config(self) -> str:
        return f"{self.release}-runs"


@dataclass(frozen=True)
class Release:
    """The settings in the release's ConfigMap: the template of its RayJobs, and where the store is."""

    template: Manifest
    mode: str
    store: str
    endpoint: str
    credentials: str
    credentials_secret: str
    exporter: bool
    origin: str
    """Identifies the release among all that share its store: cluster/namespace/release."""
    budgets: bool
    """True if the supervisor makes a PodDisruptionBudget for the head of each run."""
    max_lives: int
    """Largest number of times that a run may begin, counted in the store; 0: no bound."""
    max_hours: float
    """Hours after which a run is stopped, counted in the store; 0: no bound."""

    @classmethod
    def from_config(cls, data: Mapping[str, str], target: Target) -> "Release":
        """Read the ConfigMap's data. Raises NotInstalled if this version of the chart did not write it."""
        try:
            settings = json.loads(data["settings.json"])
            return cls(
                template=yaml.safe_load(data["rayjob.yaml"]),
                mode=settings["mode"],
                store=settings["store"],
                endpoint=settings["endpoint"],
                credentials=settings["credentials"],
                credentials_secret=settings["credentialsSecret"],
                exporter=settings["exporter"],
                origin=f"{settings['clusterId']}/{target.namespace}/{target.release}",
                budgets=settings["podDisruptionBudget"],
                max_lives=settings["maxLives"],
                max_hours=settings["maxHours"],
            )
        except (KeyError, ValueError, yaml.YAMLError) as error:
            raise NotInstalled(
                f"ConfigMap {target.namespace}/{target.runs_config} is not what this version writes ({error!r}); "
                "upgrade the release with `zoo cluster deploy`"
            ) from None


@dataclass(frozen=True, slots=True)
class RunRequest:
    """The request of one submission. Equal requests are the same run."""

    zoo: str
    run: str
    models: str | None = None
    epochs: int | None = None
    twin_epochs: int | None = None
    no_twins: bool = False
    single_writer: bool = False
    """Nobody else writes meanwhile: the store may do without atomic conditional writes."""
    allow_code: bool = False
    """The code that the spec has as its network may be run."""
    max_dollars: float | None = None
    max_hours: float | None = None
    max_workers: int | None = None
    dollars_per_hour: float | None = None
    spec: str | None = None
    """The YAML of the spec, for a zoo that is not in the image's catalogue."""

    def to_json(self) -> str:
        """Canonical JSON: equal requests give equal text. Options that were not given are left out."""
        asked = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps({k: v for k, v in asked.items() if v is not None and v is not False}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "RunRequest":
        """Parse the output of ``to_json``. Raises ClusterError for any other text."""
        try:
            known = {k: v for k, v in json.loads(text).items() if k in cls.__slots__}
            return cls(**known)
        except (ValueError, TypeError, AttributeError) as error:
            raise ClusterError(f"{text[:100]!r} is no request of `zoo cluster submit` ({error})") from None
