"""Addresses of data sets on the Hugging Face Hub, whose files are read as from any web server.

``hf://OWNER/NAME[@REVISION][/PATH]`` is our form. Addresses as people paste them from the Hub's pages mean the same.
"""

import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from ..errors import StoreURLError
from .environment import check_endpoint, variable

ENDPOINT = "https://huggingface.co"
_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co", "www.hf.co")
_ADDRESS = re.compile(
    r"hf://(?:datasets/)?(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)(?:@(?P<revision>[^/@\s?#]+))?(?P<path>(?:/[\w.-]+)*)/?"
)
_PAGE = re.compile(
    r"/datasets/(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)(?:/(?:tree|blob|resolve|raw)/(?P<rest>[^?#\s]+))?(?:/[^?#\s]*)?"
)
_REFERENCE = re.compile(r"/(?P<kind>pr|convert)/(?P<name>[\w.-]+)(?P<path>(?:/.*)?)", re.DOTALL)
_ZOO = re.compile(r".*?/zoos/[\w.-]+(?:/versions/[0-9]+)?")


def hub_address(url: str) -> str:
    """``hf://`` form of the address of a page of the Hub, e.g. .../datasets/OWNER/NAME/tree/REVISION; else ``url``."""
    parts = urlsplit(url)
    hosts = (*_HOSTS, urlsplit(variable("HF_ENDPOINT")).netloc)
    match = _PAGE.fullmatch(parts.path)
    if parts.scheme not in ("http", "https") or parts.netloc not in hosts or match is None:
        return url
    address = f"hf://{match['owner']}/{match['name']}"
    if match["rest"]:
        address += f"@{match['rest'].rstrip('/')}"
        zoo = _ZOO.fullmatch(address) or _ZOO.match(address)
        if zoo is not None:  # a page of a file of the zoo
            address = zoo[0]
    return address


def web_addresses(url: str) -> list[str]:
    """Addresses where the files of ``hf://[datasets/]OWNER/NAME[@REVISION][/PATH]`` can be; HF_ENDPOINT names a mirror.

    A revision may hold slashes, plain or as %2F. Where it ends is not known then, so that there are several addresses,
    that of the shortest revision first.

    Raises:
        StoreURLError: not of this form.
    """
    match = _match(url)
    endpoint = variable("HF_ENDPOINT") or ENDPOINT
    check_endpoint(endpoint, "HF_ENDPOINT")
    base = f"{endpoint.rstrip('/')}/datasets/{match['owner']}/{match['name']}/resolve"
    revision, path = unquote(match["revision"] or "main"), match["path"]
    reference = _REFERENCE.fullmatch(path) if revision == "refs" else None
    if reference is not None:
        revision, path = f"refs/{reference['kind']}/{reference['name']}", reference["path"]
    pieces = path.split("/")[1:]
    if "@" not in url or reference is not None or "%" in match["revision"] or revision == "main":
        cuts = [0]
    else:
        cuts = list(range(len(pieces) + 1))
    return [
        "/".join([base, quote("/".join([revision, *pieces[:cut]]), safe=""), *pieces[cut:]]).rstrip("/") for cut in cuts
    ]


def hub_token() -> str:
    """The user's token: HF_TOKEN, else what `hf auth login` wrote; "" without one. It is in no message."""
    home = variable("HF_HOME") or Path.home() / ".cache" / "huggingface"
    try:
        return variable("HF_TOKEN") or Path(variable("HF_TOKEN_PATH") or Path(home) / "token").read_text().strip()
    except (OSError, ValueError, RuntimeError):
        return ""


def default_zoo(url: str) -> str:
    """The address of the zoo in a data set: one that names no zoo means the zoo that has the data set's own name."""
    match = _match(url)
    return url if "/zoos/" in match["path"] else f"{url.rstrip('/')}/zoos/{match['name'].lower()}"


def _match(url: str) -> re.Match[str]:
    match = _ADDRESS.fullmatch(url)
    if match is None:
        raise StoreURLError(f"{url}: expected hf://OWNER/NAME or hf://OWNER/NAME/zoos/ZOO, a data set on the Hub")
    return match
