"""From an address to the store behind it. A backend is imported when an address names it."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import StoreURLError
from .protocol import ObjectStore

_SCHEMES = ("file", "s3", "memory", "http", "https", "hf")


def open_store(url: str) -> ObjectStore:
    """The store behind a path, ``file://``, ``s3://bucket/prefix``, or ``memory://name``.

    For reading only: ``https://``, ``hf://OWNER/NAME``, and the path of a zip file.

    Raises:
        StoreURLError: no backend for this URL.
    """
    if "://" not in url:
        from .local import LocalStore

        if not url:
            raise StoreURLError("the store URL is empty: give a path, file:///path or s3://bucket/prefix")
        scheme, colon, rest = url.partition(":")
        if colon and scheme in _SCHEMES:
            raise StoreURLError(
                f"{url}: did you mean {scheme}://{rest.lstrip('/')}? A directory of that name is ./{url}"
            )
        return _zip_store(Path(url)) or LocalStore(Path(url))
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise StoreURLError("a store URL must not hold credentials: use the AWS environment or a profile")
    match parts.scheme:
        case "file":
            from .local import LocalStore

            if parts.netloc not in ("", "localhost") or not parts.path:
                raise StoreURLError(f"{url}: expected file:///absolute/path")
            path = Path(unquote(parts.path))
            return _zip_store(path) or LocalStore(path)
        case "s3":
            from .s3 import S3Store

            if not parts.netloc:
                raise StoreURLError(f"{url}: expected s3://bucket/prefix")
            return S3Store(parts.netloc, parts.path.strip("/"))
        case "memory":
            from .memory import shared_memory_store

            return shared_memory_store(parts.netloc + parts.path.rstrip("/"))
        case "http" | "https":
            from .web import WebStore

            return WebStore(url)
        case "hf":
            from .hub import web_address
            from .web import WebStore

            return WebStore(web_address(url))
        case scheme:
            raise StoreURLError(f"{scheme}:// is no store: use a path, file://, s3://bucket/prefix or https://")


def require_existing(store: ObjectStore) -> None:
    """Raises StoreURLError if the store is a directory that does not exist: the first write would create it."""
    if store.root is not None and not store.root.exists():
        what = "is a symbolic link to one that does not exist" if store.root.is_symlink() else "does not exist"
        raise StoreURLError(f"{store.url}: there is no store here, the directory {what}; check the path")


def open_existing_store(url: str) -> ObjectStore:
    """``open_store``, for reading what a store holds. Raises StoreURLError where its directory does not exist."""
    store = open_store(url)
    require_existing(store)
    return store


def _zip_store(path: Path) -> ObjectStore | None:
    """A file of ``zoo store zip``, read where it lies; None for any other path."""
    if path.suffix != ".zip" or not path.is_file():
        return None
    from .zip import ZipStore

    return ZipStore(path)
