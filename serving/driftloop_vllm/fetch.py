"""Provides the weights of a version: a local folder is used directly, an object store's is copied
once."""

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

from driftloop_artifacts.object_store import open_place
from driftloop_contracts.errors import Rejected, RetryLater


def local_folder(path: str, cache: Path, roots: Iterable[str | Path]) -> Path:
    """Return the local folder for a path or URI (`s3://bucket/prefix`; credentials, region and
    endpoint come from the environment, `AWS_…`). A URI must begin with one of the roots and is
    copied to `cache` once. Raises Rejected, or RetryLater if the store does not answer."""
    if path.startswith("file://"):
        return Path(path.removeprefix("file://"))
    scheme, there, place = path.partition("://")
    if not there:
        return Path(path)
    if "@" in place.partition("/")[0] or "?" in place:
        raise Rejected(
            f"weights at {scheme}://… : leave out credentials and options, which come from the "
            f"environment"
        )
    if not any(_is_under(path, str(root)) for root in roots):
        raise Rejected(f"{path} is under none of the roots that weights may come from (llm.roots)")
    copy = cache / hashlib.sha256(path.encode()).hexdigest()[:24]
    if not copy.is_dir():
        _fetch(path, copy)
    return copy


def _is_under(uri: str, root: str) -> bool:
    root = root.rstrip("/")
    return "://" in root and f"{uri}/".startswith(f"{root}/") and ".." not in uri.split("/")


def _fetch(uri: str, copy: Path) -> None:
    """Copy all files or none, even if several processes copy the same URI."""
    from pyarrow import fs

    copy.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=copy.parent, suffix=".part") as scratch:
        part = Path(scratch) / "weights"
        part.mkdir()
        try:
            source, prefix = open_place(uri)
            selector = fs.FileSelector(prefix, allow_not_found=True, recursive=True)
            if not any(found.is_file for found in source.get_file_info(selector)):
                raise Rejected(f"there is no file under {uri}")
            fs.copy_files(prefix, str(part), source_filesystem=source)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0][:200]
            raise RetryLater(f"{uri} could not be read: {reason}", 30.0) from None
        try:
            part.rename(copy)
        except OSError:
            if not copy.is_dir():  # otherwise another process was faster
                raise
