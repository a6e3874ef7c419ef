"""Returns freed memory to the system, and looks for cycles of objects less often."""

import ctypes
import gc
import os
import threading
import time

EVERY_S = 60.0
HEAPS = 2  # as glibc calls them, arenas

_M_ARENA_MAX = -8  # malloc.h


def few_heaps() -> None:
    """Limit glibc's heaps to `HEAPS`. By default it creates up to eight per core when threads
    compete, so the memory of a role's threads would be spread over all of them. Call it before
    there are threads, and before Arrow is first used: it makes Arrow allocate with the C library,
    because Arrow's own allocator (mimalloc) keeps memory freed by other threads. Forks inherit
    it."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.mallopt(_M_ARENA_MAX, HEAPS)
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def rare_collections() -> None:
    """For a process that makes tens of thousands of objects an answer, which hold no cycles:
    looking for some took up to a third of the time of the console's pages."""
    gc.set_threshold(20_000, 20, 50)


def keep_trimmed(every_s: float = EVERY_S) -> None:
    """Start a thread that returns unused pages to the system, from the heaps of `few_heaps`.

    glibc itself only returns free memory at the end of a heap, so a single block in use keeps all
    memory below it. Does nothing if the C library does not support it.
    """
    few_heaps()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return

    def work() -> None:
        while True:
            time.sleep(every_s)
            trim(0)

    threading.Thread(target=work, name="memory", daemon=True).start()
