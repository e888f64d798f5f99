"""Put one fault at a time into a copy of the code and check that the tests notice it: ``python -m tests.mutants``.

Each mutant changes one expression. The tests that it names must fail. If they pass, the mutant has escaped and the exit
status is 1. Names as arguments choose among the mutants.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("cluster", "helm", "storage", "tests", "zoo_jobs", "docs", "zooforge.py", "pyproject.toml", "Makefile")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault: in ``path``, the only ``before`` becomes ``after``; ``tests`` must notice."""

    path: str
    before: str
    after: str
    tests: str


MUTANTS = {
    "commit": Mutant(  # two attempts that disagree about a model are no longer refused
        "storage/runs/commit.py", "if left[model] != right[model]:", "if left[model] < '':",
        "tests/storage/runs/test_commit.py",
    ),
    "ledger": Mutant(  # a model that lacks a part in the middle counts as complete
        "storage/runs/ledger.py", "return (~held & (held + 1)).bit_length() - 1", "return held.bit_length()",
        "tests/storage/runs/test_commit.py",
    ),
    "splits": Mutant(
        "storage/formats/splits.py", "VAL_BELOW = 85 *", "VAL_BELOW = 84 *", "tests/storage/formats/test_splits.py"
    ),
    "philox": Mutant(
        "zoo_jobs/engines/philox.py", "NUM_ROUNDS = 10", "NUM_ROUNDS = 9", "tests/zoo_jobs/engines/test_philox.py"
    ),
    "kl": Mutant(  # two digits of a constant of the KL term are swapped
        "zoo_jobs/sparsify/variational_dropout.py", "1.48695", "1.48659", "tests/zoo_jobs/engines/sparsify"
    ),
    "gc": Mutant(  # a sweep deletes objects that a record has named meanwhile
        "storage/ops/gc.py", "sorted(mark.keys - named)", "sorted(mark.keys)", "tests/storage/ops/test_upkeep.py"
    ),
    "claims": Mutant(  # a claim is taken from a live attempt
        "storage/runs/claims.py", "> CLAIM_VOID_SECONDS\n\n", "> 0\n\n", "tests/storage/runs/test_claims.py"
    ),
    "shard-reader": Mutant(  # one row is read one value too late
        "storage/read/shard_reader.py", "return np.frombuffer(view, info.dtype, info.shape[1], start).copy()",
        "return np.frombuffer(view, info.dtype, info.shape[1], start + info.dtype.itemsize).copy()",
        "tests/storage/read/test_zoo.py",
    ),
    "planner": Mutant(  # the last models of a split task are never trained
        "zoo_jobs/planning/units.py", "count = -(-len(members) // limit)", "count = max(1, len(members) // limit)",
        "tests/zoo_jobs/planning/test_units.py",
    ),
    "exporter": Mutant(  # one unreadable zoo ends the metrics of all zoos
        "zoo_jobs/metrics/exporter.py", "            except Exception as error:\n                whole = False",
        "            except ZeroDivisionError as error:\n                whole = False",
        "tests/zoo_jobs/metrics/test_hostile_store.py",
    ),
}  # fmt: skip


def main(names: Sequence[str]) -> int:
    if unknown := set(names) - MUTANTS.keys():
        print(f"unknown mutants {sorted(unknown)}; there are {', '.join(MUTANTS)}", file=sys.stderr)
        return 2
    escaped = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, copy / name)
        for name in names or MUTANTS:
            caught = is_caught(copy, MUTANTS[name])
            print(f"{name}: {'caught' if caught else 'ESCAPED'} by {MUTANTS[name].tests}", flush=True)
            escaped += [] if caught else [name]
    print(f"{len(names or MUTANTS) - len(escaped)} of {len(names or MUTANTS)} mutants were caught")
    return 1 if escaped else 0


def is_caught(copy: Path, mutant: Mutant) -> bool:
    """True if a test fails with the fault in place. RuntimeError unless the code to change occurs once."""
    path = copy / mutant.path
    text = path.read_text()
    if text.count(mutant.before) != 1:
        raise RuntimeError(f"{mutant.path} holds {mutant.before!r} {text.count(mutant.before)} times")
    path.write_text(text.replace(mutant.before, mutant.after))
    try:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.tests]
        environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        run = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    finally:
        path.write_text(text)
    if run.returncode not in (0, 1):
        raise RuntimeError(f"{mutant.tests} did not run:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    return run.returncode == 1 and " failed" in run.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
