"""The run id and the digest of the rows of every zoo of the catalogue, which must never change.

``python -m tests.support.golden_digests`` adds zoos that are new to tests/golden, and changes no other entry.
"""

import hashlib
import json
from collections.abc import Callable

from zooforge.zoo_jobs.catalogue import entries
from zooforge.zoo_jobs.spec.grid import rows
from zooforge.zoo_jobs.spec.twins import twins_of
from zooforge.zoo_jobs.spec.zoo import ZooSpec

from .paths import ROOT


def run_id(spec: ZooSpec) -> str:
    return spec.run_id


def rows_sha256(spec: ZooSpec) -> str:
    """SHA-256 over the digests of a zoo's rows and of its twins' rows, each on a line."""
    zoos = [spec, twins_of(spec)] if spec.sparsify is not None else [spec]
    return hashlib.sha256("".join(f"{row.digest}\n" for zoo in zoos for row in rows(zoo)).encode()).hexdigest()


GOLDEN: dict[str, Callable[[ZooSpec], str]] = {"run_ids.json": run_id, "row_digests.json": rows_sha256}
"""The files of tests/golden, and the function that gives the value of a zoo."""


def golden(name: str) -> dict[str, str]:
    """The recorded value of each zoo."""
    recorded: dict[str, str] = json.loads((ROOT / "tests" / "golden" / name).read_text())
    return recorded


def with_new_zoos(recorded: dict[str, str], value_of: Callable[[ZooSpec], str]) -> dict[str, str]:
    """``recorded`` and the values of zoos that it lacks."""
    return recorded | {spec.name: value_of(spec) for spec in entries.load_all() if spec.name not in recorded}


if __name__ == "__main__":
    for name, value_of in GOLDEN.items():
        text = json.dumps(with_new_zoos(golden(name), value_of), indent=1, sort_keys=True)
        (ROOT / "tests" / "golden" / name).write_text(f"{text}\n")
