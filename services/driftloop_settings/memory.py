"""Gives freed memory back to the machine."""

import ctypes
import os
import threading
import time

EVERY_S = 60.0
HEAPS = 2  # as glibc calls them, arenas

_M_ARENA_MAX = -8  # malloc.h


def few_heaps() -> None:
    """glibc has up to eight heaps a core, since threads that meet at one take another: what a
    role's many threads use in turn would lie in all of them. They get `HEAPS`. Call it before there
    are threads, and before Arrow is first used: that allocates with the C library then, since its
    own allocator (mimalloc) keeps what other threads freed. A fork has it from its parent.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.mallopt(_M_ARENA_MAX, HEAPS)
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def keep_trimmed(every_s: float = EVERY_S) -> None:
    """From now on, in the background, the process gives back the pages it no longer uses, out of
    `few_heaps`.

    glibc gives back by itself only what is free at the end of a heap: one block above that stays in
    use keeps all below. Does nothing where the C library cannot.
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
