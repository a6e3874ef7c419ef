"""Runs maintenance in threads of the leading archiver, so that reading continues."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from driftloop_contracts.clock import Clock, system_clock
from driftloop_contracts.health import Health, Unreported
from driftloop_contracts.retrain import RetrainState
from driftloop_lake.port import Pin
from driftloop_store.store import Store

EVERY_S = 10.0
LOAD = 0.1
"""Of a core at most, by the thread's own time: with hundreds of models a step takes seconds."""


class Upkeep(Protocol):
    """Of the lake, or of the store."""

    def step(self, now: datetime) -> object:
        """Do what is due."""


@contextmanager
def kept(
    upkeep: Upkeep,
    leads: Callable[[], bool],
    clock: Clock = system_clock,
    every_s: float = EVERY_S,
    health: Health | None = None,
) -> Iterator[None]:
    """Maintain it while this archiver `leads`. On exit, waits for the step in progress."""
    stop = threading.Event()
    reported = health or Unreported()

    def work() -> None:
        rest_s = every_s
        while not stop.wait(rest_s):
            rest_s = every_s
            if not leads():
                continue
            begun_s = time.thread_time()
            try:
                upkeep.step(clock())
                reported.succeeded()
            # errors of the store or the storage must not end the archiver
            except Exception as error:
                reported.failed(error)
            rest_s = max(every_s, (time.thread_time() - begun_s) / LOAD)

    thread = threading.Thread(target=work, name="keeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10.0)


def pinned(store: Store) -> Iterable[tuple[str, Pin]]:
    """Yield the data read by retrains that are running or produced a version, unless it was erased
    since."""
    gave_none = (RetrainState.REJECTED, RetrainState.FAILED)
    erased = {model: store.erased_at(model) for model in store.known_models()}
    for retrain in store.retrains(limit=None):
        since = erased.get(retrain.model)
        kept = since is None or retrain.at > since
        if retrain.data is not None and retrain.state not in gave_none and kept:
            yield retrain.model, Pin(retrain.data.predictions, retrain.data.labels)
