"""Treats a client's retry as the same prediction.

A retry is recognised by the client's `x-prediction-id` or `Idempotency-Key`. OpenAI's SDK sends
neither, but sets `x-stainless-retry-count`; its retries are recognised by their content. A retry
waits for the first try if that is in progress, gets the same answer if that is complete, and takes
over its prediction id if it failed. A failed try is captured only after a delay, because a retry
may replace it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from driftloop_contracts.ids import PredictionId

RETRY_WITHIN_S = 10.0
"""The SDK waits at most 8 s between two tries."""
REMEMBERED = 1024
REMEMBERED_BYTES = 8 << 20

Header = tuple[bytes, bytes]


@dataclass(slots=True)
class Try:
    """One try of a call. `sent`: the bytes sent to the client, complete if `answered`."""

    prediction_id: PredictionId
    over: asyncio.Event = field(default_factory=asyncio.Event)
    answered: bool = False
    status: int = 0
    headers: list[Header] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    _kept_back: asyncio.TimerHandle | None = None
    _capture: Callable[[], None] | None = None

    def keep_back(self, capture: Callable[[], None]) -> None:
        """Call `capture` after a delay, unless a retry takes over."""
        self._capture = capture
        self._kept_back = asyncio.get_running_loop().call_later(RETRY_WITHIN_S, self.settle)

    def settle(self) -> None:
        """Capture now if it was delayed."""
        capture, self._capture = self._capture, None
        self.take_over()
        if capture is not None:
            capture()

    def take_over(self) -> None:
        self._capture = None
        if self._kept_back is not None:
            self._kept_back.cancel()
            self._kept_back = None

    @property
    def size(self) -> int:
        return sum(map(len, self.sent)) if self.answered else 0


class Retries:
    def __init__(self) -> None:
        self._tries: OrderedDict[bytes, Try] = OrderedDict()
        self._bytes = 0

    async def earlier(self, key: bytes) -> Try | None:
        """Wait for the earlier try with this key, and return it; None if there is none."""
        found = self._tries.get(key)
        if found is not None:
            await found.over.wait()
            found.take_over()
        return found

    def begin(self, key: bytes, prediction_id: PredictionId) -> Try:
        self._forget(key)
        begun = self._tries[key] = Try(prediction_id)
        while len(self._tries) > REMEMBERED and self._forget_oldest():
            pass
        return begun

    def finish(self, key: bytes, finished: Try, *, answered: bool) -> None:
        finished.answered = answered
        if not answered:
            finished.sent.clear()
        finished.over.set()
        if self._tries.get(key) is finished:
            self._bytes += finished.size
            while self._bytes > REMEMBERED_BYTES and self._forget_oldest():
                pass

    def close(self) -> None:
        """Capture all delayed tries now."""
        for known in self._tries.values():
            known.settle()

    def _forget_oldest(self) -> bool:
        oldest = next((key for key, known in self._tries.items() if known.over.is_set()), None)
        if oldest is not None:
            self._forget(oldest)
        return oldest is not None

    def _forget(self, key: bytes) -> None:
        known = self._tries.pop(key, None)
        if known is not None:
            self._bytes -= known.size
            known.settle()
