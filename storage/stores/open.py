"""From an address to its store. A backend is imported when an address names it."""

import importlib.util
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import StoreURLError
from .environment import check_no_credentials
from .protocol import ObjectStore

_SCHEMES = ("file", "s3", "memory", "http", "https", "hf")


def open_store(url: str | os.PathLike[str], *, single_writer: bool = False) -> ObjectStore:
    """The store at a path, ``file://``, ``s3://bucket/prefix`` or ``memory://name``.

    For reading only: ``https://``, ``hf://OWNER/NAME``, the path of a zip file, and ``s3://`` where boto3 is not
    installed.

    Args:
        single_writer: the caller guarantees that no other process writes meanwhile. Conditional writes that the store
            does not support are then replaced by a check and a plain write.

    Raises:
        StoreURLError: no backend for this URL.
    """
    url = os.fspath(url)
    if "://" not in url:
        if not url.strip():
            raise StoreURLError("the store URL is empty: give a path, file:///path or s3://bucket/prefix")
        scheme, colon, rest = url.partition(":")
        if colon and scheme in _SCHEMES:
            raise StoreURLError(
                f"{url}: did you mean {scheme}://{rest.lstrip('/')}? A directory of that name is ./{url}"
            )
        return _path_store(Path(url), single_writer)
    check_no_credentials(url, "a store URL")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise StoreURLError("the store URL is malformed: check its brackets") from None
    match parts.scheme:
        case "file":
            if parts.netloc not in ("", "localhost") or not parts.path:
                raise StoreURLError(f"{url}: expected file:///absolute/path")
            return _path_store(Path(unquote(parts.path)), single_writer)
        case "s3":
            if not parts.netloc:
                raise StoreURLError(f"{url}: expected s3://bucket/prefix")
            if importlib.util.find_spec("boto3") is None:
                from .s3.reader import S3Reader

                return S3Reader(parts.netloc, parts.path.strip("/"))
            from .s3.store import S3Store

            return S3Store(parts.netloc, parts.path.strip("/"), single_writer=single_writer)
        case "memory":
            from .memory import shared_memory_store

            return shared_memory_store(parts.netloc + parts.path.rstrip("/"))
        case "http" | "https" | "hf":
            from .hub import hub_address, hub_token, web_addresses
            from .web import WebStore

            address = hub_address(url)
            on_hub = address.startswith("hf://")
            first, *others = web_addresses(address) if on_hub else [address]
            if urlsplit(first).path.rstrip("/").endswith(".zip"):
                raise StoreURLError(f"{url}: a zip file is read from a disk; download it, then open FILE.zip/zoos/NAME")
            return WebStore(first, alternatives=others, token=hub_token() if on_hub else None)
        case scheme:
            raise StoreURLError(f"{scheme}:// is no store: use a path, file://, s3://bucket/prefix or https://")


def require_existing(store: ObjectStore) -> None:
    """Raises StoreURLError if the store is a directory that does not exist: the first write would create it."""
    if store.root is not None and not store.root.exists():
        raise StoreURLError(f"{store.url}: there is no store here, the directory does not exist; check the path")


def open_existing_store(url: str) -> ObjectStore:
    """``open_store``, for reading what a store holds. Raises StoreURLError where its directory does not exist."""
    store = open_store(url)
    require_existing(store)
    return store


def _path_store(path: Path, single_writer: bool) -> ObjectStore:
    """The store of a directory, which may not exist yet, or of a file that ``zoo store zip`` wrote."""
    from .local import LocalStore

    path = path.expanduser()
    if path.is_symlink() and not path.exists():
        raise StoreURLError(f"{path}: a symbolic link to {path.readlink()}, which does not exist")
    if path.is_file():
        if path.suffix != ".zip":
            raise StoreURLError(f"{path}: a file; a store is a directory, or a zip file of `zoo store zip`")
        from .zip import ZipStore

        return ZipStore(path)
    return LocalStore(path, single_writer=single_writer)
