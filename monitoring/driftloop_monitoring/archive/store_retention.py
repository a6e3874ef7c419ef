"""What the leading archiver does for the store: old judgements are forgotten."""

from datetime import datetime, timedelta

import structlog

from driftloop_store.store import Store

log = structlog.get_logger()

EVERY_S = 600.0
MOST_BATCHES = 200
"""In one go; the next one continues."""


class StoreRetention:
    """days: how long they are kept; None: forever."""

    def __init__(self, store: Store, days: int | None) -> None:
        self._store = store
        self._days = days

    def step(self, now: datetime) -> None:
        """Forget what is old enough. Raises StoreAway."""
        if self._days is None:
            return
        before, deleted = now - timedelta(days=self._days), 0
        for _ in range(MOST_BATCHES):
            batch = self._store.forget(before)
            deleted += batch
            if not batch:
                break
        if deleted:
            log.info("store.forgotten", records=deleted, before=before.isoformat())
