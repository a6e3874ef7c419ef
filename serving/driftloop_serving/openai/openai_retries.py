"""A client's second try of a call is the same prediction.

A try is known by the id that the client chose (`x-prediction-id`), by its `Idempotency-Key`, or,
for OpenAI's SDK, which sends neither but says `x-stainless-retry-count`, by what it asks for. A
second try waits for the first one's answer if that is under way, gets it again if it is complete,
and takes over its prediction id if it failed. A failed try is kept back from capture for a while:
a first try that timed out is not a prediction of its own.
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
    """One try. `sent`: what the client was sent, whole when `answered`."""

    prediction_id: PredictionId
    over: asyncio.Event = field(default_factory=asyncio.Event)
    answered: bool = False
    status: int = 0
    headers: list[Header] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    _kept_back: asyncio.TimerHandle | None = None
    _capture: Callable[[], None] | None = None

    def keep_back(self, capture: Callable[[], None]) -> None:
        """Call `capture` later, unless a second try takes over."""
        self._capture = capture
        self._kept_back = asyncio.get_running_loop().call_later(RETRY_WITHIN_S, self.settle)

    def settle(self) -> None:
        """Capture now what is kept back."""
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
        """The try that this one repeats, when it is over."""
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
        """Capture at once what is still kept back."""
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
