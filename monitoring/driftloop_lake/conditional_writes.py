"""Whether an object store refuses to write an object that exists (`If-None-Match: *`).

Delta commits rely on it: without it, two writers overwrite each other's commits. Amazon's buckets
have it; of another endpoint's it is tried out with one small object beside the tables.
"""

import hashlib
import hmac
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from driftloop_artifacts.object_store import endpoint_of
from driftloop_contracts.errors import RetryLater, Unavailable

OBJECT = ".driftloop-conditional-write"
TIMEOUT_S = 10.0
EXISTS, CONFLICT = 412, 409


def require_conditional_writes(uri: str, environ: Mapping[str, str] = os.environ) -> None:
    """Raises Unavailable if the bucket of a lake's URI overwrites what exists, RetryLater if it
    does not answer. Places other than the bucket of a custom endpoint are not tried."""
    endpoint = endpoint_of(environ)
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    if not uri.startswith(("s3://", "s3a://")) or not endpoint:
        return
    if not all(environ.get(name) for name in names):
        return
    url = f"{endpoint.rstrip('/')}/{quote(uri.partition('://')[2].rstrip('/'))}/{OBJECT}"
    answers = [_put(url, environ) for _ in range(2)]
    if answers[1] not in (EXISTS, CONFLICT):
        raise Unavailable(
            f"the object store at {endpoint} wrote an object that existed in spite of "
            f"`If-None-Match: *` (it answered {answers[1]}): two archivers would overwrite each "
            "other's commits; use an object store with conditional writes for lake.uri"
        )


def _put(url: str, environ: Mapping[str, str]) -> int:
    request = Request(url, b"", _signed(url, environ, datetime.now(UTC)), method="PUT")
    try:
        with urlopen(request, timeout=TIMEOUT_S) as answer:
            return int(answer.status)
    except HTTPError as error:
        if error.code in (EXISTS, CONFLICT, 501):
            return error.code
        raise RetryLater(f"{url} cannot be written: {error.code} {error.reason}", 10.0) from None
    except OSError as error:
        raise RetryLater(f"{url} cannot be written: {error}", 10.0) from None


def _signed(url: str, environ: Mapping[str, str], now: datetime) -> dict[str, str]:
    """The headers of an empty PUT, signed as the AWS Signature Version 4 asks
    (docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html)."""
    place, region = urlsplit(url), environ.get("AWS_REGION", "us-east-1")
    empty, at = hashlib.sha256(b"").hexdigest(), f"{now:%Y%m%dT%H%M%SZ}"
    signed = {"host": place.netloc, "x-amz-content-sha256": empty, "x-amz-date": at}
    if token := environ.get("AWS_SESSION_TOKEN"):
        signed["x-amz-security-token"] = token
    names = ";".join(sorted(signed))
    headers = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    asked = "\n".join(("PUT", place.path, "", headers, names, empty))
    scope = f"{now:%Y%m%d}/{region}/s3/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", at, scope, hashlib.sha256(asked.encode()).hexdigest()))
    key = f"AWS4{environ['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    credential = f"{environ['AWS_ACCESS_KEY_ID']}/{scope}"
    signature = _hmac(key, text).hex()
    return {
        **signed,
        "if-none-match": "*",
        "authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, "
        f"Signature={signature}",
    }


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
