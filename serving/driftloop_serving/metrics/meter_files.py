"""The counts of all replicas of this machine. Each replica writes its counts to a file every
second, and any of them reads all files for `/metrics`, because the replicas share one port."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from driftloop_serving.capture.spool_reader import SpoolReader, writer_is_dead
from driftloop_serving.capture.stats_page import Stats
from driftloop_serving.metrics.meter import Counts, Key, ReplicaMeter

INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Graphs:
    """How many graphs are in memory, how many have left it, the bytes of those in memory, and how
    often one was loaded since the replica started."""

    awake: int
    asleep: int
    bytes: int
    loads: int


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a replica is. `busy_s`: seconds that its event loop has worked since it started.
    `graphs`: None if their memory has no limit."""

    in_flight: int
    busy_s: float
    graphs: Graphs | None = None


@dataclass(frozen=True, slots=True)
class ReplicaCounts:
    replica: str
    counts: dict[Key, Counts]
    load: Load
    capture: Stats


class MeterFiles:
    """Writes this replica's counts and reads those of all replicas.

    replica: the name of this replica's spool folder, whose lock shows that it is alive. load:
    called on the event loop.
    """

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
        """Write the file every second until cancelled; then remove it."""
        try:
            while True:
                document = orjson.dumps(self._document())
                with contextlib.suppress(OSError):  # the disk may be full; try again in a second
                    await asyncio.to_thread(self._write, document)
                await asyncio.sleep(INTERVAL_S)
        finally:
            self._path(self._replica).unlink(missing_ok=True)

    async def read_all(self) -> list[ReplicaCounts]:
        """Return this replica's current counts first, then those of the other live replicas, up to
        a second old."""
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
        return {
            "counts": [[*key, counts.to_dict()] for key, counts in self._meter.counts.items()],
            "load": asdict(self._load()),
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
    load = document["load"]
    graphs = load.get("graphs")  # a replica of an earlier release reports none
    found = Load(load["in_flight"], load["busy_s"], graphs and Graphs(**graphs))
    return ReplicaCounts(replica, counts, found, capture)
