"""How many replicas a load needs. Serve calls `policy`; a replica reports by its `LoadMeter`.

Serve itself counts requests under way, and sees none of those that our protocol takes. A replica's
limit is its event loop, which cannot use more than one core: the load is how much of a core the
replica uses.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

LOAD = "load"
Look = tuple[float, float, float]
TOLERANCE = 0.1
"""A load this near to the target (as a share of it) changes nothing: no flapping around a
boundary."""


class LoadMeter:
    """`busy_s`, `cpu_s`: seconds that the event loop worked, and that all threads had a core, since
    the start. The greater counts: the first also shows a loop that other processes keep from a
    core, the second also what runs beside the loop."""

    def __init__(
        self,
        busy_s: Callable[[], float],
        cpu_s: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look: Callable[[], Look] = lambda: (busy_s(), cpu_s(), clock())
        self._before = self._look()

    def load(self) -> float:
        """Cores in use since the last call."""
        before, self._before = self._before, self._look()
        busy_s, cpu_s, passed_s = (a - b for a, b in zip(self._before, before, strict=True))
        return max(busy_s, cpu_s) / passed_s if passed_s > 0 else 0.0


def wanted(replicas: int, loads: Mapping[str, float], target: float) -> int:
    """Replicas that bring the mean load of those that reported theirs to `target` (a share of one
    core); `replicas`, the present number, if none did or the load is near the target already."""
    if not loads:
        return replicas
    total = sum(loads.values())
    if abs(total - target * replicas) <= TOLERANCE * target * replicas:
        return replicas
    return max(1, math.ceil(total / target - TOLERANCE))


class Policy:
    """A policy in Serve's form, whose delays and bounds Serve applies."""

    def __init__(self, target_load: float) -> None:
        self._target = target_load

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        reported = (context.aggregated_metrics or {}).get(LOAD, {})
        loads = {str(replica): load for replica, load in reported.items()}
        return wanted(context.target_num_replicas, loads, self._target), {}
