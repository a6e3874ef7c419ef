"""Counts the lake for all who ask for the status, however often."""

import threading
import time
from collections.abc import Callable

from driftloop_lake.port import LakeCounts, LakeReader

LEAST_S, MOST_S = 0.5, 3.0
LOAD = 0.05
"""Of a core for counting one model, unless its counts would be older than MOST_S."""


class LakeCounter:
    """Keeps the counts of a model for half a second, or up to three if counting takes long. Of
    several who ask at once, one counts. May raise what the lake raises."""

    def __init__(self, lake: LakeReader, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._lake = lake
        self._clock_s = clock_s
        self._known: dict[str, tuple[float, LakeCounts | None]] = {}
        self._lock = threading.Lock()

    def __call__(self, model: str) -> LakeCounts | None:
        """None: the lake has no prediction of the model."""
        with self._lock:
            begun_s = self._clock_s()
            until_s, found = self._known.get(model, (begun_s, None))
            if begun_s < until_s:
                return found
            pin = self._lake.pin(model)
            found = self._lake.count(model, pin) if pin is not None else None
            now_s = self._clock_s()
            kept_s = min(MOST_S, max(LEAST_S, (now_s - begun_s) / LOAD))
            self._known[model] = now_s + kept_s, found
            return found
