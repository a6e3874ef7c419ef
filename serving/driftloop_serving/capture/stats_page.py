"""A writer's counters in a small memory-mapped file, which outlives its writer's kill.

The page is an array of slots of SLOT_BYTES: a counter (u64), then the slot's name, ended by a zero:
`<model>/<version> served`, `… dropped <reason>`, `… degraded <reason>`. Slots are never moved
or freed; one that is not named yet ends the array. So a count costs one addition, and a reader
needs no lock: a counter is written whole, and the first byte of a name after all others.
"""

import mmap
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger()

SLOT_BYTES = 128
SLOTS = 2048
PAGE_BYTES = SLOT_BYTES * SLOTS
SERVED, DROPPED, DEGRADED = "served", "dropped", "degraded"
_FORMER_NAMES = {"weaker": DEGRADED}
"""Names in the pages of writers of earlier releases: their spools are read on after an upgrade."""

_STRIDE = SLOT_BYTES // 8

Stats = dict[str, dict[str, Any]]
"""By "model/version": {"served": rows, "dropped": {reason: rows}, "degraded": {reason: rows}}."""


class StatsPage:
    """`slot` finds a counter's place in `counters`, or makes it."""

    def __init__(self, path: Path) -> None:
        # Written in full once: a hole would need disk space later, when there may be none.
        path.write_bytes(bytes(PAGE_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), PAGE_BYTES)
        self._view = memoryview(self._map)
        self.counters = self._view.cast("Q")
        self._slots: dict[tuple[str, ...], int] = {}

    def slot(self, key: str, *what: str) -> int:
        """key: "model/version"; what: SERVED, or DROPPED or DEGRADED and a reason."""
        found = self._slots.get((key, *what))
        if found is None:
            found = self._slots[key, *what] = self._new_slot(" ".join((key, *what)))
        return found

    def close(self) -> None:
        self.counters.release()
        self._view.release()
        self._map.close()

    def _new_slot(self, name: str) -> int:
        number = len(self._slots)
        text = name.encode()
        if number >= SLOTS - 1 or len(text) > SLOT_BYTES - 9:
            # Such rows count from when Kafka has them: `SpoolReader.ledger`.
            log.warning("capture.uncounted", counter=name)
            return (SLOTS - 1) * _STRIDE
        first = number * SLOT_BYTES + 8
        self._view[first + 1 : first + len(text)] = text[1:]
        self._view[first] = text[0]
        return number * _STRIDE

    @staticmethod
    def read(path: Path) -> Stats | None:
        """None if there is no page."""
        try:
            page = path.read_bytes()
        except FileNotFoundError:
            return None
        counters = memoryview(page[: len(page) // 8 * 8]).cast("Q")
        stats: Stats = {}
        for number in range(min(SLOTS - 1, len(page) // SLOT_BYTES)):
            first = number * SLOT_BYTES + 8
            name = page[first : first + SLOT_BYTES - 8].rstrip(b"\0").decode("utf-8", "replace")
            if not page[first]:
                break
            key, written, *reason = name.split(" ")
            what = _FORMER_NAMES.get(written, written)
            entry = stats.setdefault(key, {SERVED: 0, DROPPED: {}, DEGRADED: {}})
            count = counters[number * _STRIDE]
            if reason:
                entry[what][reason[0]] = count
            else:
                entry[what] = count
        return stats
