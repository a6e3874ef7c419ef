"""What vLLM loads of ours in each of its processes (entry point `vllm.general_plugins`).

An engine and its worker look for each other's messages in a loop, for a second after the last one.
Beside a GPU that takes a core which nobody misses. Without one it takes half of a small machine
from the processes that forward the answer, even after its end. Here they sleep until they are
notified, a millisecond at most: a notification may be lost, and vLLM itself would look again only
after five seconds.
"""

import os
import time
from functools import wraps
from typing import Any

SLEEPS = "DRIFTLOOP_ENGINE_SLEEPS"
"""In the environment of an engine that is to wait asleep."""
NAP_MS = 1


def register() -> None:
    if os.environ.get(SLEEPS) != "1":
        return
    from vllm.distributed.device_communicators.shm_broadcast import SpinCondition

    if hasattr(SpinCondition.wait, "__wrapped__"):
        return  # vLLM may load a plugin again
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
