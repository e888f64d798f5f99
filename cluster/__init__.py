"""The command `zoo cluster`: deploy the chart to Kubernetes, and submit, follow and stop runs there.

This room knows Helm, Kubernetes and KubeRay. It imports no other room: what it needs to know about zoos it asks the
command `zoo` (``zoo_command``). Public: ``cli.command``, and what the chart's pods run: ``python -m
zooforge.cluster.selftest`` and ``python -m zooforge.cluster.store_pod``.
"""

if __name__ != "zooforge.cluster":
    raise ImportError(f"import zooforge.cluster, not {__name__}: under two names its classes would exist twice")
