"""What the environment must say before Ray is imported: it reads its authentication mode once, at import."""

import contextlib
import os
import secrets
from pathlib import Path


def prepare(address: str) -> str:
    """Set up the environment for ``--ray ADDRESS``; gives ``local``, ``none`` or the address of a cluster.

    ``auto`` joins the cluster that ``RAY_ADDRESS`` names, if any, and else is ``local``. Ray listens beyond loopback
    even on one machine, so locally every call has to carry a token from a private file; a cluster brings its own.
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
    """The user's Ray token, made at the first call; its folder is private (0700) and outside every store."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "zooforge"
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    state.chmod(0o700)
    token = state / "ray-token"
    if not token.exists():
        fresh = state / f".ray-token-{secrets.token_hex(8)}"
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):
            os.link(fresh, token)  # of two processes that start at once, one's token stands
        fresh.unlink()
    return token
