"""Folders by digest on this machine, up to a number of bytes.

Several processes may use one cache. A process that uses a folder holds a shared lock on it, so that
no other removes it; the lock ends with its process. A folder appears complete, by a rename.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import structlog

from driftloop_artifacts.manifest import Manifest, read_manifest
from driftloop_contracts.errors import DriftloopError, Rejected, RetryLater
from driftloop_contracts.file_hash import sha256_of

log = structlog.get_logger()

FILES, LIST = "files", "manifest.json"
GONE, PART, FETCH = ".gone-", ".part-", ".fetch-"


class LocalCache:
    """Folders are removed, the least recently used first, beyond `limit_bytes`; those in use stay,
    even if they are more than that."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit = limit_bytes

    @contextmanager
    def use(
        self,
        digest: str,
        listed: Callable[[], Manifest],
        fetch: Callable[[Manifest, Path], None],
    ) -> Iterator[Path]:
        """The folder, which stays as long as the block runs. listed: returns its files if it is
        not here. fetch: writes them into a new folder. Raises Rejected if they are not what the
        list says, RetryLater if the disk is full, and their errors."""
        while (held := self._hold(digest)) is None:
            self._bring(digest, listed, fetch)
        try:
            yield self._folder / digest / FILES
        finally:
            os.close(held)

    def _hold(self, digest: str) -> int | None:
        place = self._folder / digest
        descriptor = None
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            # It may have been removed before the lock was ours.
            if os.path.samestat(place.stat(), os.fstat(descriptor)) and _whole(place, digest):
                os.utime(place)
                held, descriptor = descriptor, None
                return held
        except FileNotFoundError:
            pass
        except OSError as error:
            raise RetryLater(f"{self._folder} cannot be used: {error.strerror}") from None
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return None

    def _bring(
        self,
        digest: str,
        listed: Callable[[], Manifest],
        fetch: Callable[[Manifest, Path], None],
    ) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{FETCH}{digest[0]}").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            place, part = self._folder / digest, self._folder / f"{PART}{digest}"
            if place.is_dir():
                if _whole(place, digest):
                    return
                log.warning("artifacts.damaged", digest=digest)
                self._remove(place)
            for left in self._folder.glob(f"{PART}{digest[0]}*"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            manifest = listed()
            self._make_room(manifest.size)
            try:
                (part / FILES).mkdir(parents=True)
                fetch(manifest, part / FILES)
                _verify(manifest, part / FILES)
                (part / LIST).write_bytes(manifest.to_bytes())
                part.rename(place)
            except OSError as error:
                raise RetryLater(f"{self._folder} cannot be written: {error.strerror}") from None
            finally:
                shutil.rmtree(part, ignore_errors=True)
        log.info("artifacts.fetched", digest=digest, bytes=manifest.size)

    def _make_room(self, more: int) -> None:
        """Remove what was not used for longest until there is room for `more` bytes."""
        sizes: dict[Path, tuple[float, int]] = {}
        for entry in list(self._folder.iterdir()):
            if entry.name.startswith(GONE):
                shutil.rmtree(entry, ignore_errors=True)
            elif not entry.name.startswith("."):
                with suppress(OSError):  # another process may have just removed it
                    sizes[entry] = (entry.stat().st_mtime, _size(entry))
        total = more + sum(size for _, size in sizes.values())
        for entry in sorted(sizes, key=lambda one: sizes[one]):
            if total <= self._limit:
                return
            if self._remove(entry):
                total -= sizes[entry][1]
                log.info("artifacts.evicted", digest=entry.name)
        if total > self._limit:
            log.warning("artifacts.over_limit", bytes=total, limit_bytes=self._limit)

    def _remove(self, place: Path) -> bool:
        """Remove a folder unless somebody uses it."""
        with suppress(OSError):
            descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                gone = self._folder / f"{GONE}{uuid4().hex}"
                place.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)
                return True
            finally:
                os.close(descriptor)
        return False


def _size(place: Path) -> int:
    return sum(file.stat().st_size for file in (place / FILES).rglob("*") if file.is_file())


def _whole(place: Path, digest: str) -> bool:
    """Whether all files are there in their sizes: their content was verified when they came, and a
    full disk or a power cut shortens files."""
    try:
        manifest = read_manifest((place / LIST).read_bytes(), digest)
        return all((place / FILES / f.name).stat().st_size == f.size for f in manifest.files)
    except (OSError, DriftloopError):
        return False


def _verify(manifest: Manifest, folder: Path) -> None:
    for file in manifest.files:
        path = folder / file.name
        if path.stat().st_size != file.size or sha256_of(path) != file.sha256:
            raise Rejected(f"{file.name} arrived with other content than it was stored with")
        with path.open("rb") as opened:
            os.fsync(opened.fileno())
