"""What every sender does."""

from typing import Protocol

from driftloop_alerts.message import Message


class Undelivered(Exception):
    """The receiver has not taken the message: it is sent again, after `retry_after_s` seconds at
    the earliest. `str(error)` holds no secret: it is shown and logged."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Sender(Protocol):
    def send(self, message: Message) -> None:
        """Return when the receiver has the message; sent again, it has the same id. Raises
        Undelivered."""

    def close(self) -> None: ...
