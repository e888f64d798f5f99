"""Environment variables that have to be set before Ray is imported: it reads its authentication mode at import."""

import contextlib
import os
import secrets
from pathlib import Path

from ...data.sources import user_folder
from ...errors import InputError


def prepare(address: str) -> str:
    """Set up the environment for ``--ray ADDRESS``. Returns ``local``, ``none`` or the address of a cluster.

    ``auto`` is the cluster that ``RAY_ADDRESS`` names, else ``local``. Ray listens on all interfaces even on one
    machine, so a local Ray requires a token from a private file; a cluster has its own authentication.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = resolved(address)
    if address == "local" and not os.environ.get("RAY_AUTH_MODE"):
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_file())
    return address


def resolved(address: str) -> str:
    """``local``, ``none`` or the address of a cluster, for ``--ray ADDRESS``."""
    return (os.environ.get("RAY_ADDRESS") or "local") if address == "auto" else address


def token_file() -> Path:
    """The file of the user's Ray token, written at the first call into a private folder outside every store.

    Raises InputError where it cannot be written.
    """
    state = user_folder("XDG_STATE_HOME", ".local/state", "XDG_STATE_HOME")
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        token = state / "ray-token"
        if not token.exists():
            state.chmod(0o700)
            fresh = state / f".ray-token-{secrets.token_hex(8)}"
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_hex(32))
            with contextlib.suppress(FileExistsError):
                os.link(fresh, token)  # two processes that start at once use the same token
            fresh.unlink()
    except OSError as error:
        raise InputError(
            f"{state}: Ray's token cannot be kept there ({error.strerror or error}); "
            "set XDG_STATE_HOME to a folder that may be written, or use --ray none"
        ) from error
    return token
