"""Makes boto3 clients for S3. They find region, endpoint and credentials in the standard way of AWS."""

from collections.abc import Mapping
from typing import Any

from ..environment import check_endpoint, configured_endpoint

CONNECT_SECONDS = 4.0
FIRST_READ_SECONDS = 8.0  # for the first request, so that a dead endpoint is noticed within 15 s
READ_SECONDS = 60.0
MAX_CONNECTIONS = 32


def new_session() -> Any:
    import boto3

    return boto3.session.Session()  # a new session reads the environment and the files again


def new_client(session: Any, read_seconds: float, options: Mapping[str, Any]) -> Any:
    from botocore.config import Config

    settings: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": read_seconds,
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "max_pool_connections": MAX_CONNECTIONS,
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "user_agent_extra": "zooforge",
    }
    region = session.region_name or "us-east-1"
    if options.get("endpoint_url") or configured_endpoint():
        settings["s3"] = {"addressing_style": "path"}  # such servers rarely have a host name per bucket
    client = session.client("s3", region_name=region, config=Config(**settings), **options)
    if "s3" not in settings and ".amazonaws.com" not in str(client.meta.endpoint_url):  # a profile set it
        settings["s3"] = {"addressing_style": "path"}
        client = session.client("s3", region_name=region, config=Config(**settings), **options)
    check_endpoint(str(client.meta.endpoint_url), "endpoint_url of the AWS config files")
    return client
