"""Asks an address again and again while alerts work: a dead man's switch elsewhere notices when
nobody asks."""

import threading
from datetime import datetime, timedelta

import structlog

from driftloop_alerts.senders.http_post import HttpPost
from driftloop_alerts.senders.port import Undelivered

log = structlog.get_logger()


class Heartbeat:
    """One beat is under way at a time, in a thread of its own: a switch that hangs holds up
    nothing."""

    def __init__(self, post: HttpPost, every_s: float) -> None:
        self._post = post
        self._every = timedelta(seconds=every_s)
        self._beat_at: datetime | None = None
        self._thread: threading.Thread | None = None

    def beat(self, now: datetime) -> None:
        """To be called after each cycle that did what it is for."""
        is_early = self._beat_at is not None and now - self._beat_at < self._every
        if is_early or (self._thread is not None and self._thread.is_alive()):
            return
        self._beat_at = now
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until the beat under way has ended."""
        if self._thread is not None:
            self._thread.join()

    def _send(self) -> None:
        try:
            self._post.send(b"{}")
        except Undelivered as error:
            log.warning("alerts.heartbeat_failed", reason=str(error))
