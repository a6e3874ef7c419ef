"""Maintains the lake while archivers and readers use it: compaction, retention and cleaning.

Compaction and retention only create new versions. Files of old versions are deleted after
`vacuum_hours`, and never while a version that needs them is pinned. Readers have that long to
finish; a reader that needs a version later must pin it.
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
"""The past of the offsets table is not read, and each flush adds to it."""

Pinned = Callable[[], Iterable[tuple[str, Pin]]]
"""Returns the models and versions that must stay readable. May raise; then nothing is deleted."""


@dataclass(frozen=True, slots=True)
class Rules:
    """compact_files: the number of small files that triggers compaction. vacuum_hours: how long
    unpinned versions stay readable. retention_days: rows of older days are dropped; None: never."""

    compact_files: int
    vacuum_hours: int
    retention_days: int | None = None


class Upkeep:
    """Maintains one lake. Should run once per lake; if two run, one finds the work already done."""

    def __init__(self, uri: str, rules: Rules, pinned: Pinned) -> None:
        self._uri = uri
        self._rules = rules
        self._pinned = pinned
        self._cleaned: datetime | None = None
        self._open: dict[str, UpkeepTable] = {}

    def step(self, now: datetime) -> None:
        """Compact tables that need it and, once an hour, drop and clean. A table that is
        unavailable is skipped until the next step."""
        clean = self._cleaned is None or now - self._cleaned >= CLEAN_EVERY
        pinned = _by_table(self._uri, self._pinned()) if clean else {}
        for uri in self._tables():
            try:
                table = UpkeepTable.newest(uri, self._open)
                if table is not None:
                    self._compact(uri, table)
                    if clean:
                        self._clean(uri, table, pinned.get(uri, ()), now)
            except RetryLater as error:
                self._open.pop(uri, None)
                log.info("lake.upkeep_waits", table=uri, reason=str(error))
        if clean:
            self._cleaned = now

    def _tables(self) -> list[str]:
        models = storage.folders(self._uri, layout.PREDICTIONS_FOLDER)
        shadowed = storage.folders(self._uri, layout.SHADOWS_FOLDER)
        return [
            *(layout.predictions_uri(self._uri, model) for model in models),
            *(layout.shadows_uri(self._uri, model) for model in shadowed),
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
