"""One poll of the store for all open pages: what changed since a page last looked."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.concurrency import run_in_threadpool

from driftloop_console.context import ConsoleContext
from driftloop_contracts.errors import RetryLater

POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class Tokens:
    """Values that differ once something changed. models: of each model, of its records; traffic: of
    each model, of the rows that replicas count; roles: of the processes; stamp: of the store."""

    models: Mapping[str, Any] = field(default_factory=dict)
    traffic: Mapping[str, Any] = field(default_factory=dict)
    roles: str = ""
    stamp: tuple[int, ...] = ()

    def records_of(self, about: frozenset[str] | None) -> object:
        """None: all models, and roles."""
        if about is None:
            return self.models, self.roles
        return [self.models.get(name) for name in sorted(about)]

    def traffic_of(self, about: frozenset[str] | None) -> object:
        return self.traffic if about is None else [self.traffic.get(n) for n in sorted(about)]


def tokens(context: ConsoleContext, before: Tokens = Tokens()) -> Tokens:
    """As they are now. Raises StoreAway."""
    store, running = context.store, context.run_state()
    roles, stamp = repr(running.to_dict()) if running else "", store.stamp()
    if stamp == before.stamp:
        return replace(before, roles=roles)
    return Tokens(store.revisions(), store.traffic(), roles, stamp)


class ChangesFeed:
    """Polls while somebody listens. Used from one event loop. look: from the tokens before to those
    of now."""

    def __init__(
        self,
        look: Callable[[Tokens], Tokens],
        stopping: Callable[[], bool] = lambda: False,
        poll_s: float = POLL_S,
    ) -> None:
        self._look = look
        self._stopping = stopping
        self._poll_s = poll_s
        self._listeners = 0
        self._task: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self._looked = asyncio.Event()
        self.tokens = Tokens()
        self.ended = False

    @contextlib.asynccontextmanager
    async def listening(self) -> Any:
        """The tokens are those of now, or younger, from the beginning of the block."""
        self._listeners += 1
        try:
            if self._task is None or self._task.done():
                self._looked = asyncio.Event()
                self._task = asyncio.create_task(self._poll())
            await self._looked.wait()
            yield
        finally:
            self._listeners -= 1
            if not self._listeners and self._task is not None:
                self._task.cancel()
                self._task = None

    async def moved(self, known: Tokens, timeout_s: float) -> bool:
        """Waits until the tokens are not the `known` ones, or the feed has ended; false if nothing
        changed for so long."""
        if self.ended or self.tokens != known:
            return True
        try:
            await asyncio.wait_for(self._moved.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def _poll(self) -> None:
        while not self._stopping():
            try:
                found = await run_in_threadpool(self._look, self.tokens)
            except RetryLater:  # the store is away: what changed is seen when it is back
                found = self.tokens
            if found != self.tokens:
                self.tokens = found
                self._move()
            self._looked.set()
            await asyncio.sleep(self._poll_s)
        self.ended = True
        self._looked.set()
        self._move()

    def _move(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
