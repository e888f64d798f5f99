"""The checks of `helm test`, run in a pod: the store answers, and ports that must be closed are closed."""

import argparse
import json
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence

from . import zoo_command
from .errors import ClusterError

TIMEOUT_SECONDS = 5


def store_answers(url: str) -> str:
    zoo_command.run(["store", "ls", "--store", url])
    return "the store answers with this pod's identity"


def space_comes_back(url: str) -> str:
    """Raises ClusterError if the bucket keeps replaced and deleted objects for ever."""
    answer = json.loads(zoo_command.run(["store", "probe", "--store", url, "--json"]))["space_comes_back"]
    if answer is False:
        raise ClusterError(
            "bucket versioning: on, and nothing expires what was replaced or deleted; claims and gc would fill the "
            "bucket: turn versioning off, or add a lifecycle rule with NoncurrentVersionExpiration"
        )
    state = "off, or old versions expire" if answer else "the server does not say; see that old versions expire"
    return f"bucket versioning: {state}"


def http_status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def expect_status(url: str, wanted: int) -> str:
    status = http_status(url)
    if status != wanted:
        raise ClusterError(f"{url} answers {status}, expected {wanted}")
    return f"{url} answers {status}"


def expect_closed(address: str) -> str:
    """Raises ClusterError if an address of the host takes a connection, or if the host has no address."""
    host, _, port = address.rpartition(":")
    try:
        hosts = sorted({str(info[4][0]) for info in socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)})
    except OSError as error:
        raise ClusterError(f"{address}: {host} has no address ({error}), so its port was not tried") from None
    for one in hosts:
        try:
            with socket.create_connection((one, int(port)), timeout=TIMEOUT_SECONDS):
                raise ClusterError(f"{address} can be reached at {one}; it must not be")
        except OSError:
            pass
    return f"{address} cannot be reached at {', '.join(hosts)}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m zooforge.cluster.selftest", description=__doc__)
    parser.add_argument("--store", metavar="URL")
    parser.add_argument("--versions", action="store_true", help="look at the versioning of the store's bucket too")
    parser.add_argument("--exporter", metavar="URL", help="answers 200")
    parser.add_argument("--open", metavar="URL", help="answers 200")
    parser.add_argument("--protected", metavar="URL", help="answers 401 without a token")
    parser.add_argument("--closed", metavar="HOST:PORT", action="append", default=[])
    options = parser.parse_args(arguments)
    checks: list[tuple[Callable[..., str], tuple[object, ...]]] = []
    if options.store:
        checks.append((store_answers, (options.store,)))
        checks += [(space_comes_back, (options.store,))] if options.versions else []
    checks += [(expect_status, (url, 200)) for url in (options.exporter, options.open) if url]
    if options.protected:
        checks.append((expect_status, (options.protected, 401)))
    checks += [(expect_closed, (address,)) for address in options.closed]
    failed = 0
    for check, values in checks:
        try:
            sys.stdout.write(f"pass  {check(*values)}\n")
        except (ClusterError, OSError) as error:
            failed += 1
            sys.stdout.write(f"FAIL  {error}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
