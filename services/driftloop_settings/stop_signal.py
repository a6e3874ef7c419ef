"""Turns SIGTERM and SIGINT into an event that a process waits for."""

import contextlib
import os
import signal
import threading

NUMBERS = (signal.SIGTERM, signal.SIGINT)


def stop_on_signals(stop: threading.Event) -> None:
    """Set `stop` at SIGTERM or SIGINT. Call it in the main thread.

    A thread sets it, not the handler: the handler runs between two steps of the main thread, which
    may hold the lock of the event it waits for, and would then wait for itself. Until there is a
    signal the thread is in a system call and holds no lock, so that a fork is safe.
    """
    asked, ask = os.pipe()
    os.set_blocking(ask, False)

    def handle(*_: object) -> None:
        with contextlib.suppress(BlockingIOError):  # thousands of signals: one is enough
            os.write(ask, b"x")

    def wait() -> None:
        os.read(asked, 1)
        stop.set()

    threading.Thread(target=wait, name="stop-signal", daemon=True).start()
    for number in NUMBERS:
        signal.signal(number, handle)
