"""Forwards local ports to a pod's ports, through the API server."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from kubernetes.client import ApiException
from kubernetes.stream import portforward

from .client import Cluster
from .errors import ClusterError

CHUNK_BYTES = 64 * 1024


class PortForward:
    """Listens on loopback until it is closed. Every connection has its own stream to the pod."""

    def __init__(
        self, cluster: Cluster, namespace: str, pod: str, ports: Mapping[int, int], warn: Callable[[str], None]
    ) -> None:
        """``ports`` maps a local port to a port of the pod; local port 0 means any free port.

        ``warn`` takes one line for each connection that the API server refuses, such as a missing right.
        """
        self._warn = warn
        self._cluster, self._namespace, self._pod = cluster, namespace, pod
        self.listeners: dict[int, socket.socket] = {}
        for local, remote in ports.items():
            try:
                self.listeners[remote] = socket.create_server(("127.0.0.1", local))
            except OSError as error:
                self.close()
                raise ClusterError(
                    f"local port {local} cannot be used ({error.strerror}); choose another one"
                ) from None

    def local_port(self, remote: int) -> int:
        return int(self.listeners[remote].getsockname()[1])

    def close(self) -> None:
        for listener in self.listeners.values():
            listener.close()

    def serve(self) -> None:
        """Accept connections until the process is interrupted or ``close`` is called."""
        with selectors.DefaultSelector() as selector:
            for remote, listener in self.listeners.items():
                selector.register(listener, selectors.EVENT_READ, remote)
            while True:
                for key, _ in selector.select():
                    with contextlib.suppress(OSError):
                        connection, _ = self.listeners[key.data].accept()
                        threading.Thread(target=self._carry, args=(connection, key.data), daemon=True).start()

    def _carry(self, near: socket.socket, remote: int) -> None:
        try:
            far = self._open(remote)
        except (ApiException, OSError) as error:
            self._warn(f"port {remote} of pod {self._pod} is not forwarded: {' '.join(str(error).split())[:200]}")
            near.close()
            return
        with near, contextlib.closing(far), contextlib.suppress(OSError):
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            _pump(near, far)
            back.join()

    def _open(self, remote: int) -> Any:
        stream = portforward(
            self._cluster.core.connect_get_namespaced_pod_portforward, self._pod, self._namespace, ports=str(remote)
        )
        far = stream.socket(remote)
        far.setblocking(True)
        return far


def _pump(source: Any, sink: Any) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK_BYTES):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
