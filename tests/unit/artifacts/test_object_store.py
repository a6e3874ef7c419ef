"""Which object store `s3://` places are asked of."""

import pytest

from driftloop_artifacts.object_store import endpoint_of

EVERY, S3 = "http://every:1", "http://s3:2"


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, None),
        ({"AWS_ENDPOINT_URL": EVERY}, EVERY),
        ({"AWS_ENDPOINT_URL_S3": S3}, S3),
        ({"AWS_ENDPOINT_URL": EVERY, "AWS_ENDPOINT_URL_S3": S3}, S3),
        ({"AWS_ENDPOINT_URL": EVERY, "AWS_ENDPOINT_URL_S3": ""}, EVERY),
    ],
)
def test_the_name_for_s3_alone_comes_first(environ: dict[str, str], endpoint: str | None) -> None:
    assert endpoint_of(environ) == endpoint
