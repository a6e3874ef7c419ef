"""Weights from where they lie: a local folder as it is, an object store's once as a copy."""

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from driftloop_contracts.errors import Rejected, RetryLater

DONE = ".complete"


def local_folder(path: str, cache: Path, roots: Iterable[str | Path]) -> Path:
    """The folder for a path or URI (`s3://bucket/prefix`; credentials, region and endpoint from the
    environment, `AWS_…`). A URI must begin with one of the roots and is copied under `cache` once.
    Raises Rejected, and RetryLater where the store does not answer."""
    if path.startswith("file://"):
        return Path(path.removeprefix("file://"))
    if "://" not in path:
        return Path(path)
    if not any(_is_under(path, str(root)) for root in roots):
        raise Rejected(f"{path} is under none of the roots that weights may come from (llm.roots)")
    copy = cache / hashlib.sha256(path.encode()).hexdigest()[:24]
    if not (copy / DONE).exists():
        _fetch(path, copy)
    return copy


def _is_under(uri: str, root: str) -> bool:
    root = root.rstrip("/")
    return "://" in root and (uri == root or uri.startswith(f"{root}/")) and "/../" not in uri


def _fetch(uri: str, copy: Path) -> None:
    from pyarrow import fs

    part = copy.with_name(f"{copy.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        source, prefix = _opened(uri)
        fs.copy_files(prefix, str(part), source_filesystem=source)
    except (OSError, ValueError) as error:
        shutil.rmtree(part, ignore_errors=True)
        reason = str(error).splitlines()[0][:200]
        raise RetryLater(f"{uri} could not be read: {reason}", 30.0) from None
    (part / DONE).touch()
    shutil.rmtree(copy, ignore_errors=True)
    part.rename(copy)


def _opened(uri: str) -> "tuple[object, str]":
    from pyarrow import fs

    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if uri.startswith("s3://") and endpoint:
        scheme, _, host = endpoint.partition("://")
        region = os.environ.get("AWS_REGION", "us-east-1")
        store = fs.S3FileSystem(endpoint_override=host, scheme=scheme, region=region)
        return store, uri.removeprefix("s3://")
    source, prefix = fs.FileSystem.from_uri(uri)
    return source, prefix
