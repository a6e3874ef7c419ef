"""Computes how many replicas a load needs. Serve calls `Policy`; replicas report through
`LoadMeter`.

Serve itself counts requests in progress, but does not see the requests that our protocol handles. A
replica is limited by its event loop, which can use at most one core, so the load is the fraction of
a core that the replica uses.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

LOAD = "load"
Look = tuple[float, float, float]
TOLERANCE = 0.1
"""If the load differs from the target by at most this fraction, the number stays, to avoid
flapping."""


class LoadMeter:
    """Measures the load of a replica.

    busy_s, cpu_s: return the seconds since the start that the event loop worked, and the CPU
    seconds of all threads. The greater one counts: the first includes time in which other processes
    held the core, the second includes work outside the loop.
    """

    def __init__(
        self,
        busy_s: Callable[[], float],
        cpu_s: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look: Callable[[], Look] = lambda: (busy_s(), cpu_s(), clock())
        self._before = self._look()

    def load(self) -> float:
        """Return the cores used since the last call."""
        before, self._before = self._before, self._look()
        busy_s, cpu_s, passed_s = (a - b for a, b in zip(self._before, before, strict=True))
        return max(busy_s, cpu_s) / passed_s if passed_s > 0 else 0.0


def wanted(replicas: int, loads: Mapping[str, float], target: float) -> int:
    """Return the number of replicas that brings the mean reported load to `target` (a fraction of
    one core). The present number is kept if no load was reported or it is close to the target."""
    if not loads:
        return replicas
    total = sum(loads.values())
    if abs(total - target * replicas) <= TOLERANCE * target * replicas:
        return replicas
    return max(1, math.ceil(total / target - TOLERANCE))


class Policy:
    """A policy in Serve's format; Serve applies its delays and bounds."""

    def __init__(self, target_load: float) -> None:
        self._target = target_load

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        reported = (context.aggregated_metrics or {}).get(LOAD, {})
        loads = {str(replica): load for replica, load in reported.items()}
        return wanted(context.target_num_replicas, loads, self._target), {}
