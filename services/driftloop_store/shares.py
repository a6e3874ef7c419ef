"""The part of a role's work that is this process's while the role runs several times.

A thread keeps the leases while a cycle takes long; it stops if no cycle was heard of for
`patience_s`, so that a process that hangs loses its part. One that dies loses it after LASTS_S.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

import structlog

from driftloop_settings import Settings
from driftloop_settings.instance_lock import locked_instance
from driftloop_settings.run_state import run_dir
from driftloop_store.engine import StoreAway
from driftloop_store.leases import lease_of
from driftloop_store.readers import Fence
from driftloop_store.store import Store

log = structlog.get_logger()

LASTS_S = 20.0
"""A killed process's part is free after this; its successors look every few seconds."""
RENEWED_EACH = 4
"""How often a lease is renewed while it lasts."""


class Shares:
    """holder: the same before and after a restart, so that a process that was killed need not wait
    for its own leases. most: a part is not larger than that, and has what comes first. Only `keep`
    may run on another thread."""

    def __init__(
        self,
        store: Store,
        role: str,
        holder: str,
        *,
        patience_s: float,
        most: int | None = None,
        lasts_s: float = LASTS_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._role, self._holder = store, role, holder
        self._patience_s, self._most, self._lasts_s = patience_s, most, lasts_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._mine: frozenset[str] = frozenset()
        self._wanted: tuple[str, ...] = ()
        self._shared_at = self._renewed_at = self._alive_at = -float("inf")

    def of(self, wanted: Collection[str]) -> frozenset[str]:
        """This process's part; call it at the start of a cycle. Raises StoreAway."""
        now = self.alive()
        known = tuple(wanted)
        with self._lock:
            is_due = now - self._shared_at >= self._lasts_s / RENEWED_EACH
            if is_due or {*known} != {*self._wanted} or not self._lasts(now):
                before = self._mine
                self._mine = self._store.share(
                    self._role, self._holder, known, self._lasts_s, self._most
                )
                self._wanted, self._shared_at, self._renewed_at = known, now, now
                if before != self._mine:
                    log.info(f"{self._role}.shares", of=len(known), mine=len(self._mine))
            return self._mine

    def holds(self, one: str) -> bool:
        """Whether it is still this process's, as far as the store could say."""
        return one in self._mine

    def fence(self, one: str) -> Fence:
        """With it, the store refuses what a former holder writes."""
        return Fence(lease_of(self._role, one), self._holder)

    def alive(self) -> float:
        """A cycle is at work; returns the time."""
        self._alive_at = self._monotonic()
        return self._alive_at

    def renew(self) -> None:
        """Keep what this process has if its cycles are alive."""
        now = self._monotonic()
        hangs = now - self._alive_at > self._patience_s
        if hangs or now - self._renewed_at < self._lasts_s / RENEWED_EACH / 2:
            return
        with self._lock, suppress(StoreAway):
            kept = self._store.renew_shares(self._role, self._holder, self._lasts_s)
            self._mine, self._renewed_at = self._mine & kept, now

    def keep(self, stop: threading.Event) -> None:
        """Renew until stopped."""
        while not stop.wait(self._lasts_s / RENEWED_EACH):
            self.renew()

    def give_back(self) -> None:
        """Others may take this process's part at once."""
        with self._lock, suppress(StoreAway):
            self._store.give_back_shares(self._role, self._holder)
            self._mine = frozenset()

    def _lasts(self, now: float) -> bool:
        return now - self._renewed_at < self._lasts_s


@contextmanager
def opened_shares(
    settings: Settings, store: Store, role: str, *, patience_s: float, most: int | None = None
) -> Iterator[Shares]:
    """Those of this process, which are kept while the block runs."""
    with locked_instance(run_dir(settings.state_dir) / role) as holder:
        shares = Shares(store, role, holder, patience_s=patience_s, most=most)
        stop = threading.Event()
        keeping = threading.Thread(target=shares.keep, args=(stop,), daemon=True)
        keeping.start()
        try:
            yield shares
        finally:
            stop.set()
            keeping.join()
            shares.give_back()
