"""Forwarding a local port to a pod."""

import socket
import threading
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
from kubernetes.client import ApiException

from zooforge.cluster import port_forward
from zooforge.cluster.client import Cluster
from zooforge.cluster.port_forward import PortForward


def test_a_refused_connection_is_closed_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ApiException(status=403, reason="Forbidden\nHTTP response body: pods/portforward")

    monkeypatch.setattr(port_forward, "portforward", refuse)
    lines: list[str] = []
    forward = PortForward(cast(Cluster, MagicMock()), "zoos", "head-0", {0: 8265}, lines.append)
    threading.Thread(target=forward.serve, daemon=True).start()
    with socket.create_connection(("127.0.0.1", forward.local_port(8265))) as connection:
        assert connection.recv(1) == b""
    assert len(lines) == 1
    assert lines[0].startswith("port 8265 of pod head-0 is not forwarded: (403) Reason: Forbidden")
    assert "\n" not in lines[0]
