"""Opens an object store by pyarrow, with credentials, region and endpoint from the environment
(`AWS_…`)."""

import os
from collections.abc import Mapping
from typing import Any

PATIENCE_S, TRIES = 10.0, 3
"""The seconds that a connection attempt, or a connection without a byte, may take, and the number
of attempts, for an endpoint given by the environment."""


def endpoint_of(environ: Mapping[str, str] = os.environ) -> str | None:
    """The object store's URL; None: Amazon's. The name for S3 alone comes first, as in AWS's
    clients."""
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or None


def open_place(uri: str) -> tuple[Any, str]:
    """Return the file system and the prefix in it. Raises OSError or ValueError."""
    from pyarrow import fs

    endpoint = endpoint_of()
    if uri.startswith(("s3://", "s3a://")) and endpoint:
        scheme, _, host = endpoint.partition("://")
        store = fs.S3FileSystem(
            endpoint_override=host,
            scheme=scheme,
            region=os.environ.get("AWS_REGION", "us-east-1"),
            connect_timeout=PATIENCE_S,
            request_timeout=PATIENCE_S,
            retry_strategy=fs.AwsStandardS3RetryStrategy(TRIES),
        )
        return store, uri.partition("://")[2].rstrip("/")
    source, prefix = fs.FileSystem.from_uri(uri)
    return source, prefix
