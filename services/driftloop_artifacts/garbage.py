"""Finds and deletes the stored files that nothing names any more.

Delivery order: lists of folders that nothing names go first, so that nobody finds a folder that
lost files; then the files that no remaining list has. A folder that is being stored is safe,
because only what was written before `before` is deleted, and `Blobs.put` writes a file anew that
has been there for longer than a day: `before` must be more than a day ago.
"""

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from driftloop_artifacts.blobs import Blobs, StoredFile
from driftloop_artifacts.manifest import Manifest, digest_of, read_manifest

LISTS, FILES, NAMED = "folders", "blobs", "named"


@dataclass(frozen=True, slots=True)
class Garbage:
    """What nothing names: `folders` are lists of files."""

    folders: tuple[StoredFile, ...]
    files: tuple[StoredFile, ...]
    named: tuple[StoredFile, ...]

    @property
    def all(self) -> tuple[StoredFile, ...]:
        return self.folders + self.files + self.named

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return sum(file.size for file in self.all)


def find_garbage(
    blobs: Blobs,
    addresses: Iterable[str],
    is_named: Callable[[str], bool],
    before: datetime,
) -> Garbage:
    """What was written before `before` and is not needed by these addresses, or by a folder that is
    newer. is_named: whether a file that is stored under a name is needed. Raises RetryLater, and
    Rejected or NotFound if a list cannot be read: then it is not known what it needs."""
    wanted = {digest_of(address) for address in addresses}
    kept: list[StoredFile] = []
    unnamed: list[StoredFile] = []
    for entry in blobs.found(LISTS):
        digest = Path(entry.key).stem
        is_old = entry.written_at < before
        (unnamed if is_old and digest not in wanted else kept).append(entry)
    needed = {file.sha256 for entry in kept for file in _manifest(blobs, entry).files}
    files = tuple(
        file
        for file in blobs.found(FILES)
        if file.written_at < before and Path(file.key).name not in needed
    )
    named = tuple(
        file
        for file in blobs.found(NAMED)
        if file.written_at < before and not is_named(file.key.removeprefix(f"{NAMED}/"))
    )
    return Garbage(tuple(unnamed), files, named)


def _manifest(blobs: Blobs, entry: StoredFile) -> Manifest:
    with tempfile.TemporaryDirectory() as scratch:
        blobs.get(entry.key, Path(scratch) / "list")
        return read_manifest((Path(scratch) / "list").read_bytes(), Path(entry.key).stem)


def delete(blobs: Blobs, garbage: Garbage) -> None:
    """Raises RetryLater; the rest is found the next time."""
    for file in garbage.all:
        blobs.delete(file.key)
