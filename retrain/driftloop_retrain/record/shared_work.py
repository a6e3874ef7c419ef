"""The work folder of a retrain where other machines find it: if this one is lost, another goes on
from the last copy. Nothing is copied on a stack of one machine.

Order of a copy: the archive → the cursor that names it → the one before is removed. So a kill at
any point leaves a whole one.
"""

import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import structlog

from driftloop_artifacts import Artifacts
from driftloop_contracts.errors import DriftloopError, Rejected
from driftloop_contracts.safe_tar import unpack
from driftloop_store import Store, StoreAway

log = structlog.get_logger()

EVERY_S = 60.0
Stamp = frozenset[tuple[str, int, int]]


class SharedWork:
    """work: the folder on this machine."""

    def __init__(self, artifacts: Artifacts, store: Store, retrain_id: str, work: Path) -> None:
        self._artifacts, self._store, self._work = artifacts, store, work
        self._cursor = f"retrain-work/{retrain_id}"
        self._place = f"retrains/{retrain_id}"
        self._copied: Stamp = frozenset()

    def restore(self) -> bool:
        """Whether the folder was made from another machine's copy. One that is here stays. Raises
        RetryLater."""
        name = self._known()
        if self._work.exists() or name is None:
            return False
        self._work.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._work.parent, prefix=".part-") as scratch:
            archive, part = Path(scratch) / "work.tar", Path(scratch) / "work"
            if not self._artifacts.bring(name, archive):
                return False
            try:
                with tarfile.open(archive) as tar:
                    unpack(tar, part)
            except (tarfile.TarError, OSError, Rejected) as error:
                log.warning("retrain.copy_unreadable", reason=str(error))
                return False
            part.rename(self._work)
        log.info("retrain.restored", copy=name)
        return True

    def save(self) -> None:
        """Copy the folder if a file of it has changed. Raises RetryLater and StoreAway."""
        stamp = self._stamp()
        if self._artifacts.place is None or not stamp or stamp == self._copied:
            return
        before, name = self._known(), f"{self._place}/{uuid4().hex}.tar"
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch) / "work.tar"
            try:
                with tarfile.open(archive, "w") as tar:
                    tar.add(self._work, ".")
            except OSError:  # a file was just removed or shortened: the next copy has it
                return
            self._artifacts.keep(name, archive)
        self._store.put_cursor(self._cursor, {"copy": name})
        self._copied = stamp
        if before is not None:
            self._artifacts.drop(before)

    def forget(self) -> None:
        """Remove the copy of a retrain that has ended. Raises RetryLater and StoreAway."""
        name = self._known()
        if name is not None:
            self._store.drop_cursor(self._cursor)
            self._artifacts.drop(name)

    @contextmanager
    def kept(self, every_s: float = EVERY_S) -> Iterator[None]:
        """Copy it every `every_s` while the block runs."""
        if self._artifacts.place is None:
            yield
            return
        stop = threading.Event()
        keeping = threading.Thread(target=self._keep, args=(stop, every_s), daemon=True)
        keeping.start()
        try:
            yield
        finally:
            stop.set()
            keeping.join()

    def _keep(self, stop: threading.Event, every_s: float) -> None:
        while not stop.wait(every_s):
            with suppress(StoreAway):
                try:
                    self.save()
                except (DriftloopError, OSError) as error:
                    log.warning("retrain.not_copied", reason=str(error))

    def _known(self) -> str | None:
        """The name of the last copy."""
        if self._artifacts.place is None:
            return None
        found = self._store.cursor(self._cursor)
        return None if found is None else str(found["copy"])

    def _stamp(self) -> Stamp:
        found = set()
        for path in self._work.rglob("*"):
            with suppress(FileNotFoundError):
                stat = path.stat()
                found.add((str(path), stat.st_size, stat.st_mtime_ns))
        return frozenset(found)
