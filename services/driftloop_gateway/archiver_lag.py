"""How far the lake is behind Kafka. Asked of both, not of the archiver: it may be what hangs."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping

import structlog

from driftloop_contracts.errors import DriftloopError
from driftloop_contracts.events import LABELS, PREDICTIONS

log = structlog.get_logger()

Offsets = Mapping[int, int]
"""By partition."""
EVERY_S = 10.0
KNOWN_FOR_S = 60.0


def in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


class ArchiverLag:
    """Called for the lag, it answers with what is known, and looks again in the background: Kafka
    may be away, and who measures does not wait. Nothing is asked while nobody calls.

    ends: the number of the next record of each partition of a topic; archived: how many of some
    partitions the lake has. Both may raise DriftloopError. begin: runs the look.
    """

    def __init__(
        self,
        ends: Callable[[str], Offsets],
        archived: Callable[[str, Iterable[int]], Offsets],
        monotonic: Callable[[], float] = time.monotonic,
        begin: Callable[[Callable[[], None]], None] = in_background,
    ) -> None:
        self._ends = ends
        self._archived = archived
        self._monotonic = monotonic
        self._begin = begin
        self._known: tuple[float, Mapping[str, int]] | None = None
        self._asked_at: float | None = None
        self._lock = threading.Lock()

    def __call__(self) -> Mapping[str, int]:
        """Records by topic; empty while it is not known, or not any more."""
        now = self._monotonic()
        with self._lock:
            due = self._asked_at is None or now - self._asked_at >= EVERY_S
            if due:
                self._asked_at = now
        if due:
            self._begin(self.look)
        known = self._known
        return known[1] if known is not None and now - known[0] < KNOWN_FOR_S else {}

    def look(self) -> None:
        """Ask Kafka and the lake once."""
        try:
            lag = {topic: self._behind(topic) for topic in (PREDICTIONS, LABELS)}
        except DriftloopError as error:
            log.info("gateway.archiver_lag_unknown", reason=str(error))
            return
        self._known = (self._monotonic(), lag)

    def _behind(self, topic: str) -> int:
        ends = self._ends(topic)
        archived = self._archived(topic, ends)
        # The lake is read last: it may be ahead of what Kafka said.
        return sum(max(0, end - archived[number]) for number, end in ends.items())
