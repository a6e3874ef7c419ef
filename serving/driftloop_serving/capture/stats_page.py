"""The counters of a writer in a small memory-mapped file, which survives a kill of the writer.

The page is an array of slots of SLOT_BYTES: a counter (u64) followed by the zero-terminated name of
the slot: `<model>/<version> served`, `… dropped <reason>`, `… degraded <reason>`. Slots are never
moved or freed; the first unnamed slot ends the array. Counting therefore costs one addition, and
readers need no lock: a counter is written in one piece, and the first byte of a name is written
last.
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
"""Names used by earlier releases, whose spools are still read after an upgrade."""

_STRIDE = SLOT_BYTES // 8

Stats = dict[str, dict[str, Any]]
"""By "model/version": {"served": rows, "dropped": {reason: rows}, "degraded": {reason: rows}}."""


class StatsPage:
    """The counters of one writer; `slot` returns the index of a counter in `counters` and creates
    it if needed."""

    def __init__(self, path: Path) -> None:
        # Written in full once: a sparse file would need disk space later, when the disk may be
        # full.
        path.write_bytes(bytes(PAGE_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), PAGE_BYTES)
        self._view = memoryview(self._map)
        self.counters = self._view.cast("Q")
        self._slots: dict[tuple[str, ...], int] = {}

    def slot(self, key: str, *what: str) -> int:
        """Return the index of a counter. key: "model/version". what: SERVED, or DROPPED or DEGRADED
        and a reason."""
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
            # These rows are counted once Kafka has them: `SpoolReader.ledger`.
            log.warning("capture.uncounted", counter=name)
            return (SLOTS - 1) * _STRIDE
        first = number * SLOT_BYTES + 8
        self._view[first + 1 : first + len(text)] = text[1:]
        self._view[first] = text[0]
        return number * _STRIDE

    @staticmethod
    def read(path: Path) -> Stats | None:
        """Return the counts in a page file; None if it does not exist."""
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
