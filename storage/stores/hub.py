"""Zoos on the Hugging Face Hub, read as from any web server: ``hf://OWNER/NAME`` is the address of a data set there."""

import os
import re
from urllib.parse import quote

from ..errors import StoreURLError

ENDPOINT = "https://huggingface.co"
_ADDRESS = re.compile(
    r"hf://(?:datasets/)?(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)(?:@(?P<revision>[^/@]+))?(?P<path>(?:/[\w.-]+)*)/?"
)


def web_address(url: str) -> str:
    """Where the files of ``hf://[datasets/]OWNER/NAME[@REVISION][/PATH]`` are; ``HF_ENDPOINT`` names a mirror.

    Raises:
        StoreURLError: not of this form.
    """
    match = _match(url)
    endpoint = os.environ.get("HF_ENDPOINT", ENDPOINT).rstrip("/")
    revision = quote(match["revision"] or "main", safe="")
    return f"{endpoint}/datasets/{match['owner']}/{match['name']}/resolve/{revision}{match['path']}"


def default_zoo(url: str) -> str:
    """The address of the zoo in a data set: one that names no zoo means the zoo of the data set's own name."""
    match = _match(url)
    return url if "/zoos/" in match["path"] else f"{url.rstrip('/')}/zoos/{match['name'].lower()}"


def _match(url: str) -> re.Match[str]:
    match = _ADDRESS.fullmatch(url)
    if match is None:
        raise StoreURLError(f"{url}: expected hf://OWNER/NAME or hf://OWNER/NAME/zoos/ZOO, a data set on the Hub")
    return match
