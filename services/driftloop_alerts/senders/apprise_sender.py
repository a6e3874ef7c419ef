"""Whatever the package `apprise` knows (the extra `alerts`)."""

from driftloop_alerts.message import Message, text_of
from driftloop_alerts.senders.port import Undelivered


class AppriseSender:
    """Apprise returns only whether it worked, and logs the reason."""

    def __init__(self, url: str) -> None:
        from apprise import Apprise

        self._apprise = Apprise()
        self.known = bool(self._apprise.add(url))

    def send(self, message: Message) -> None:
        if not self.known:
            raise Undelivered("Apprise does not know such an address")
        if not self._apprise.notify(title=message.title, body=text_of(message)):
            raise Undelivered("Apprise could not send it; see logs/alerts.log")

    def close(self) -> None:
        """Each message has its own connection."""
