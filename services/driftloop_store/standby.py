"""A role that acts on one machine only: the others stand by, and one takes over when the first is
not heard of any more."""

from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from driftloop_store.engine import StoreAway
from driftloop_store.store import Store

log = structlog.get_logger()

LASTS = timedelta(seconds=30)


class Lease:
    """holder: the same before and after a restart, so that a role that was killed need not wait for
    its own lease. It is renewed when half of it has passed."""

    def __init__(self, store: Store, role: str, holder: str, lasts: timedelta = LASTS) -> None:
        self._store = store
        self._role = role
        self._holder = holder
        self._lasts = lasts
        self._until: datetime | None = None
        self._said: bool | None = None

    def held(self, now: datetime) -> bool:
        """Whether this machine acts now. Raises StoreAway."""
        left = self._until - now if self._until is not None else timedelta(0)
        if not self._lasts / 2 < left <= self._lasts:  # more is left if the clock was set back
            until = now + self._lasts
            taken = self._store.take_lease(self._role, self._holder, now, until)
            self._until = until if taken else None
        found = self._until is not None
        if found != self._said:
            event = "role.acts" if found else "role.stands_by"
            log.info(event, role=self._role, holder=self._holder)
            self._said = found
        return found

    def give_back(self) -> None:
        with suppress(StoreAway):
            self._store.give_back_lease(self._role, self._holder)
