"""Writes reports to a store that may be unavailable."""

import asyncio
from collections.abc import Callable

from driftloop_store import StoreAway

RETRY_S = 1.0


class Reporting:
    """Writes reports one at a time. A replica serves regardless of the store: a report that could
    not be written is retried until it, or a newer one, is written."""

    def __init__(self, retry_s: float = RETRY_S) -> None:
        self._retry_s = retry_s
        self._unwritten: Callable[[], None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._trying: asyncio.Task[None] | None = None

    async def write(self, report: Callable[[], None]) -> None:
        """Call `report` in a thread. Returns when it was written or has failed once."""
        self._unwritten = report
        if not await self._written() and (self._trying is None or self._trying.done()):
            self._trying = asyncio.create_task(self._try_again())

    async def _try_again(self) -> None:
        while not await self._written():
            await asyncio.sleep(self._retry_s)

    async def _written(self) -> bool:
        async with self._one_at_a_time:
            report = self._unwritten
            if report is None:
                return True
            try:
                await asyncio.to_thread(report)
            except StoreAway:
                return False
            if self._unwritten is report:
                self._unwritten = None
            return self._unwritten is None
