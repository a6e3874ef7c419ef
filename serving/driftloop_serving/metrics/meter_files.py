"""The counts of all replicas of this machine: each writes its own to a file every second, and
any replica reads them all for `/metrics`, since the replicas of a machine share one port."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from driftloop_serving.capture.spool_reader import SpoolReader, writer_is_dead
from driftloop_serving.capture.stats_page import Stats
from driftloop_serving.metrics.meter import Counts, Key, ReplicaMeter

INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a replica is. `busy_s`: seconds that its event loop worked, since it started."""

    in_flight: int
    busy_s: float


@dataclass(frozen=True, slots=True)
class ReplicaCounts:
    replica: str
    counts: dict[Key, Counts]
    load: Load
    capture: Stats


class MeterFiles:
    """`replica`: the name of this replica's spool folder, whose lock says that its writer lives.
    `load` is called on the event loop."""

    def __init__(
        self,
        folder: Path,
        spool_dir: Path,
        replica: str,
        meter: ReplicaMeter,
        load: Callable[[], Load],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._spool_dir = spool_dir
        self._replica = replica
        self._meter = meter
        self._load = load

    async def keep_written(self) -> None:
        """Until it is cancelled; the file is gone then."""
        try:
            while True:
                document = orjson.dumps(self._document())
                with contextlib.suppress(OSError):  # a full disk: the next second may be better
                    await asyncio.to_thread(self._write, document)
                await asyncio.sleep(INTERVAL_S)
        finally:
            self._path(self._replica).unlink(missing_ok=True)

    async def read_all(self) -> list[ReplicaCounts]:
        """This replica first, of this moment; then the others that live, up to a second old."""
        own = _parsed(self._replica, self._document(), self._capture(self._replica))
        return [own, *await asyncio.to_thread(self._others)]

    def _others(self) -> list[ReplicaCounts]:
        found = []
        for path in sorted(self._folder.glob("*.json")):
            replica = path.stem
            if replica == self._replica:
                continue
            if writer_is_dead(self._spool_dir / replica):
                path.unlink(missing_ok=True)
                continue
            with contextlib.suppress(FileNotFoundError):
                document = orjson.loads(path.read_bytes())
                found.append(_parsed(replica, document, self._capture(replica)))
        return found

    def _document(self) -> dict[str, Any]:
        load = self._load()
        return {
            "counts": [[*key, counts.to_dict()] for key, counts in self._meter.counts.items()],
            "load": {"in_flight": load.in_flight, "busy_s": load.busy_s},
        }

    def _write(self, document: bytes) -> None:
        path = self._path(self._replica)
        unfinished = path.with_suffix(".tmp")
        unfinished.write_bytes(document)
        unfinished.rename(path)

    def _path(self, replica: str) -> Path:
        return self._folder / f"{replica}.json"

    def _capture(self, replica: str) -> Stats:
        return SpoolReader(self._spool_dir / replica).counts()


def _parsed(replica: str, document: dict[str, Any], capture: Stats) -> ReplicaCounts:
    counts = {
        (model, version, arm): Counts.from_dict(value)
        for model, version, arm, value in document["counts"]
    }
    return ReplicaCounts(replica, counts, Load(**document["load"]), capture)
