"""The lake's upkeep: compaction, retention and cleaning, beside archivers and readers.

Compaction and retention only ever make new versions. What old versions need is deleted after
`vacuum_hours`, and never while a version of it is pinned: readers that are at work have that long,
and who must read a version again in a year pins it.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from driftloop_contracts.errors import RetryLater
from driftloop_lake import layout, storage
from driftloop_lake.port import Pin
from driftloop_lake.upkeep_table import UpkeepTable

log = structlog.get_logger()

CLEAN_EVERY = timedelta(hours=1)
OFFSETS_HOURS = 1
"""Nobody reads the past of the offsets, and each flush adds to it."""

Pinned = Callable[[], Iterable[tuple[str, Pin]]]
"""The models and versions that must stay readable. May raise; then nothing is deleted."""


@dataclass(frozen=True, slots=True)
class Rules:
    """compact_files: the number of small files that are compacted at once. vacuum_hours: how long
    versions that are not pinned stay readable. retention_days: rows of older days are dropped;
    None: never."""

    compact_files: int
    vacuum_hours: int
    retention_days: int | None = None


class Upkeep:
    """At most one works on a lake at a time; where two do, one of them finds its work done."""

    def __init__(self, uri: str, rules: Rules, pinned: Pinned) -> None:
        self._uri = uri
        self._rules = rules
        self._pinned = pinned
        self._cleaned: datetime | None = None

    def step(self, now: datetime) -> None:
        """Compact what needs it and, once an hour, drop and clean. A table that cannot be worked on
        now waits for the next step."""
        clean = self._cleaned is None or now - self._cleaned >= CLEAN_EVERY
        pinned = _by_table(self._uri, self._pinned()) if clean else {}
        for uri in self._tables():
            try:
                table = UpkeepTable.open(uri)
                if table is not None:
                    self._compact(uri, table)
                    if clean:
                        self._clean(uri, table, pinned.get(uri, ()), now)
            except RetryLater as error:
                log.info("lake.upkeep_waits", table=uri, reason=str(error))
        if clean:
            self._cleaned = now

    def _tables(self) -> list[str]:
        models = storage.folders(self._uri, layout.PREDICTIONS_FOLDER)
        return [
            *(layout.predictions_uri(self._uri, model) for model in models),
            layout.labels_uri(self._uri),
            layout.dead_letters_uri(self._uri),
            layout.offsets_uri(self._uri),
        ]

    def _compact(self, uri: str, table: UpkeepTable) -> None:
        small = table.small_files()
        if small >= self._rules.compact_files:
            table.compact()
            log.info("lake.compacted", table=uri, small_files=small, left=table.small_files())

    def _clean(self, uri: str, table: UpkeepTable, pinned: Collection[int], now: datetime) -> None:
        offsets = uri == layout.offsets_uri(self._uri)
        hours = OFFSETS_HOURS if offsets else self._rules.vacuum_hours
        days = self._rules.retention_days
        if days is not None and not offsets:
            table.drop_before((now - timedelta(days=days)).date())
        files = table.vacuum(hours, pinned)
        entries = table.trim_log(now - timedelta(hours=hours), pinned)
        if files or entries:
            log.info("lake.cleaned", table=uri, files=files, log_entries=entries)


def _by_table(uri: str, pinned: Iterable[tuple[str, Pin]]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for model, pin in pinned:
        found.setdefault(layout.predictions_uri(uri, model), set()).add(pin.predictions)
        if pin.labels >= 0:
            found.setdefault(layout.labels_uri(uri), set()).add(pin.labels)
    return found
