"""Kubernetes: deploys the chart, submits runs to Ray and follows them. Imports no other room."""

if __name__ != "zooforge.cluster":
    raise ImportError(f"import zooforge.cluster, not {__name__}: under two names its classes would exist twice")
