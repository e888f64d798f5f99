"""The verbs of a scheduler's job: run, pending, begun, stop."""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from zooforge.storage.errors import StorageError
from zooforge.storage.stores.open import open_store

from ..errors import ZooError
from ..who import sentence, who
from .listing import begun, pending
from .output import say
from .run import run
from .stops import stop


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    texts = {
        "run": "run a zoo",
        "pending": "list unfinished runs",
        "begun": "list jobs that began",
        "stop": "stop a run",
    }
    for verb, text in texts.items():
        sub = verbs.add_parser(verb, help=text)
        if verb == "run":
            sub.add_argument("--slots", type=int, help="workers at once")
        if verb in ("run", "stop"):
            sub.add_argument("name")
        sub.add_argument("--store", required=True)
        if verb in ("pending", "begun"):
            sub.add_argument("--origin", required=True, help="cluster/namespace/release of the jobs")
        if verb == "stop":
            sub.add_argument("--reason", default=f"by {sentence(who(os.environ))}")
            sub.add_argument("--single-writer", action="store_true", help="conditional writes need not be atomic")
    known = parser.parse_args(arguments)
    try:
        if known.verb == "run":
            return run(known.name, known.store, known.slots, os.environ)
        if known.verb == "stop":
            stop(known.store, known.name, known.reason, single_writer=known.single_writer)
        else:
            listed = {"pending": pending, "begun": begun}[known.verb](open_store(known.store), known.origin)
            sys.stdout.write(json.dumps(listed) + "\n")
    except (ZooError, StorageError) as error:
        return say(str(error), error.exit_status)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
