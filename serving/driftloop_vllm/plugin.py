"""A plugin that vLLM loads in each of its processes (entry point `vllm.general_plugins`).

An engine and its worker poll for each other's messages in a busy loop, until a second after the
last one. With a GPU the core is not missed. Without one, polling takes half of a small machine from
the processes that forward the answer. This plugin makes them sleep until they are notified, for at
most a millisecond, because a notification may be lost and vLLM itself would check again only after
five seconds.
"""

import os
import time
from functools import wraps
from typing import Any

SLEEPS = "DRIFTLOOP_ENGINE_SLEEPS"
"""The environment variable of an engine that must sleep while it waits."""
NAP_MS = 1


def register() -> None:
    if os.environ.get(SLEEPS) != "1":
        return
    from vllm.distributed.device_communicators.shm_broadcast import SpinCondition

    if hasattr(SpinCondition.wait, "__wrapped__"):
        return  # vLLM may load a plugin twice
    wait = SpinCondition.wait

    @wraps(wait)
    def nap(self: Any, timeout_ms: int | None = None) -> None:
        spins = time.monotonic() <= self.last_read + self.busy_loop_s
        as_set, self.busy_loop_s = self.busy_loop_s, 0.0
        try:
            wait(self, NAP_MS if spins else timeout_ms)
        finally:
            self.busy_loop_s = as_set

    SpinCondition.wait = nap
