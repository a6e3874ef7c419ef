"""Files under keys, in a folder that machines share or in a bucket. A key's content never changes,
so that writing it again is safe, and readers verify what they got."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from driftloop_artifacts.object_store import open_place
from driftloop_contracts.errors import NotFound, RetryLater

COPY_BYTES = 8 << 20
FRESH = timedelta(days=1)
"""A file that is stored again after longer is written anew, so that its time says that it is
needed (`garbage`)."""
AWAY_S = 10.0
"""When a caller should ask again for files that cannot be reached now."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """size: in bytes."""

    key: str
    size: int
    written_at: datetime


class Blobs(Protocol):
    place: str
    """The folder or URI, for people."""

    def put(self, key: str, file: Path) -> None:
        """Store a file unless a fresh one of its size is there. Raises RetryLater if the place
        cannot be reached or written."""

    def get(self, key: str, file: Path) -> None:
        """Write the content to a new file. Raises NotFound, or RetryLater."""

    def delete(self, key: str) -> None:
        """Remove it; nothing happens if it is not there. Raises RetryLater."""

    def found(self, folder: str) -> Iterator[StoredFile]:
        """All whose keys begin with `folder/`, unordered. Raises RetryLater."""


class FolderBlobs:
    """On a file system. Files of the same one are linked and not copied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.place = str(folder)

    def put(self, key: str, file: Path) -> None:
        target = self._folder / key
        with _reached(self.place):
            if target.is_file() and target.stat().st_size == file.stat().st_size:
                os.utime(target)
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.{uuid4().hex}")
            # A copy: a later change of the file must not change what is stored.
            shutil.copyfile(file, part)
            part.chmod(0o444)
            part.replace(target)

    def get(self, key: str, file: Path) -> None:
        source = self._folder / key
        with _reached(self.place):
            if not source.is_file():
                raise NotFound(f"{self.place} has no {key}")
            try:
                os.link(source, file)
            except OSError:  # another file system, or one without links
                shutil.copyfile(source, file)

    def delete(self, key: str) -> None:
        with _reached(self.place):
            (self._folder / key).unlink(missing_ok=True)

    def found(self, folder: str) -> Iterator[StoredFile]:
        with _reached(self.place):
            for path in (self._folder / folder).rglob("*"):
                if path.is_file():
                    about = path.stat()
                    written = datetime.fromtimestamp(about.st_mtime, UTC)
                    key = path.relative_to(self._folder).as_posix()
                    yield StoredFile(key, about.st_size, written)


class ObjectBlobs:
    """In an object store, `s3://bucket/prefix`. Connects on first use."""

    def __init__(self, uri: str) -> None:
        self.place = uri.rstrip("/")
        self._opened: tuple[Any, str] | None = None

    def put(self, key: str, file: Path) -> None:
        with _reached(self.place):
            system, root = self._open()
            found = system.get_file_info(f"{root}/{key}")
            # An upload that was cut off has another size.
            is_fresh = found.is_file and datetime.now(UTC) - _time(found) < FRESH
            if is_fresh and found.size == file.stat().st_size:
                return
            with file.open("rb") as source, system.open_output_stream(f"{root}/{key}") as sink:
                shutil.copyfileobj(source, sink, COPY_BYTES)

    def get(self, key: str, file: Path) -> None:
        with _reached(self.place):
            system, root = self._open()
            try:
                source = system.open_input_stream(f"{root}/{key}")
            except FileNotFoundError:
                raise NotFound(f"{self.place} has no {key}") from None
            with source, file.open("xb") as sink:
                shutil.copyfileobj(source, sink, COPY_BYTES)

    def delete(self, key: str) -> None:
        with _reached(self.place), suppress(FileNotFoundError):
            system, root = self._open()
            system.delete_file(f"{root}/{key}")

    def found(self, folder: str) -> Iterator[StoredFile]:
        from pyarrow import fs

        with _reached(self.place):
            system, root = self._open()
            place = fs.FileSelector(f"{root}/{folder}", allow_not_found=True, recursive=True)
            for info in system.get_file_info(place):
                if info.is_file:
                    yield StoredFile(info.path.removeprefix(f"{root}/"), info.size, _time(info))

    def _open(self) -> tuple[Any, str]:
        if self._opened is None:
            self._opened = open_place(self.place)
        return self._opened


def _time(info: Any) -> datetime:
    written: datetime = info.mtime
    return written.astimezone(UTC)


def blobs_at(place: str) -> Blobs:
    """Those of a folder, or of an object store by its URI."""
    if "://" in place and not place.startswith("file://"):
        return ObjectBlobs(place)
    return FolderBlobs(Path(place.removeprefix("file://")).absolute())


@contextmanager
def _reached(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise RetryLater(f"the artifacts at {place} cannot be used: {reason}", AWAY_S) from None
