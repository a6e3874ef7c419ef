"""The lake's upkeep, beside the archiver that leads: in a thread of its own, so that reading goes
on."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from driftloop_contracts.clock import Clock, system_clock
from driftloop_contracts.health import Health, Unreported
from driftloop_contracts.retrain import RetrainState
from driftloop_lake.port import Pin
from driftloop_lake.upkeep import Upkeep
from driftloop_store.store import Store

EVERY_S = 10.0
_ALL = 1_000_000


@contextmanager
def kept(
    upkeep: Upkeep,
    leads: Callable[[], bool],
    clock: Clock = system_clock,
    every_s: float = EVERY_S,
    health: Health | None = None,
) -> Iterator[None]:
    """Keeps the lake while this archiver `leads`. Leaving waits for the table that is being worked
    on."""
    stop = threading.Event()
    reported = health or Unreported()

    def work() -> None:
        while not stop.wait(every_s):
            if not leads():
                continue
            try:
                upkeep.step(clock())
                reported.succeeded()
            except Exception as error:  # neither the store nor the storage may end the archiver
                reported.failed(error)

    thread = threading.Thread(target=work, name="lake-keeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10.0)


def pinned(store: Store) -> Iterable[tuple[str, Pin]]:
    """What retrains that are under way or gave a version have read, unless it was erased since."""
    gave_none = (RetrainState.REJECTED, RetrainState.FAILED)
    erased = {model: store.erased_at(model) for model in store.known_models()}
    for retrain in store.retrains(limit=_ALL):
        since = erased.get(retrain.model)
        kept = since is None or retrain.at > since
        if retrain.data is not None and retrain.state not in gave_none and kept:
            yield retrain.model, Pin(retrain.data.predictions, retrain.data.labels)
