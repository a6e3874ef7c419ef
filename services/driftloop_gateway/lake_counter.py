"""Counts the lake for all who ask for the status, however often and however many models."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from driftloop_contracts.clock import Clock, system_clock
from driftloop_contracts.errors import DriftloopError
from driftloop_lake.port import LakeCounts, LakeReader

LEAST_S, MOST_S = 0.5, 3.0
LOAD = 0.05
"""Of a core for counting one model, unless its counts would be older than MOST_S."""
PATIENCE_S = 0.3
"""For counting while somebody waits; older counts are given of the models that are left."""
EVERY_S, ASKED_S = 5.0, 120.0
"""How often those left are counted, PATIENCE_S at a time, and for how long after the last who
asked."""


@dataclass(frozen=True, slots=True)
class Counted:
    """`counts`: None if the lake has no prediction of the model. at: when it was counted; None: it
    was not yet."""

    counts: LakeCounts | None = None
    at: datetime | None = None
    again_s: float = 0.0


class LakeCounter:
    """Keeps the counts of a model for half a second, or up to three if counting takes long, or
    longer if there are more models than can be counted. Of several who ask at once, one counts. May
    raise what the lake raises."""

    def __init__(
        self,
        lake: LakeReader,
        clock_s: Callable[[], float] = time.monotonic,
        clock: Clock = system_clock,
    ) -> None:
        self._lake = lake
        self._clock_s, self._clock = clock_s, clock
        self._known: dict[str, Counted] = {}
        self._lock = threading.Lock()
        self._asked: tuple[float, Sequence[str]] = (0.0, ())
        self._follower: threading.Thread | None = None

    def __call__(self, models: Iterable[str]) -> dict[str, Counted]:
        names = tuple(models)
        with self._lock:
            self._known = {name: self._known.get(name, Counted()) for name in names}
            self._asked = self._clock_s(), names
            if self._count(names) and (self._follower is None or not self._follower.is_alive()):
                self._follower = threading.Thread(target=self._follow, daemon=True)
                self._follower.start()
            return dict(self._known)

    def _count(self, names: Sequence[str]) -> bool:
        """Count those that are due, the oldest first. Returns whether some are left."""
        begun_s = self._clock_s()
        due = [name for name in names if self._known[name].again_s <= begun_s]
        for number, name in enumerate(sorted(due, key=lambda each: self._known[each].again_s)):
            now_s = self._clock_s()
            if number and now_s - begun_s >= PATIENCE_S:
                return True
            pin = self._lake.pin(name)
            counts = self._lake.count(name, pin) if pin is not None else None
            then_s = self._clock_s()
            kept_s = min(MOST_S, max(LEAST_S, (then_s - now_s) / LOAD))
            self._known[name] = Counted(counts, self._clock(), then_s + kept_s)
        return False

    def _follow(self) -> None:
        left = True
        while left:
            time.sleep(EVERY_S)
            with self._lock, suppress(DriftloopError):  # raised to the next caller
                at_s, names = self._asked
                left = self._clock_s() - at_s < ASKED_S and self._count(names)
