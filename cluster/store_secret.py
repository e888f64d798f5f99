"""Makes the Secret with the credentials of the embedded store. They are made once and never printed."""

import base64
import contextlib
import secrets

from .client import Cluster
from .errors import AlreadyExists, ObjectMissing

SECRET_NAME = "zoo-store"


def store_secret(cluster: Cluster, namespace: str) -> bool:
    """Create the Secret and its namespace if they do not exist. Returns False if the Secret existed."""
    if cluster.find("namespaces", None, namespace) is None:
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        with contextlib.suppress(AlreadyExists):
            cluster.create("namespaces", None, made)
    access, secret_key = f"zoo{secrets.token_hex(8)}", secrets.token_urlsafe(32)
    text = f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret_key}\n"
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET_NAME},
        "data": {"credentials": base64.b64encode(text.encode()).decode()},
    }
    try:
        cluster.get("secrets", namespace, SECRET_NAME)
    except ObjectMissing:
        cluster.create("secrets", namespace, secret)
        return True
    return False
