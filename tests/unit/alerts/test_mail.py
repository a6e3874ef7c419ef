"""Mail, against a real SMTP server."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from zoneinfo import ZoneInfo

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from incident_cases import incident_of

from driftloop_alerts.grouping import Item
from driftloop_alerts.message import compose
from driftloop_alerts.senders.building import sender_for
from driftloop_alerts.senders.port import Undelivered
from driftloop_contracts.incident import NoticeKind
from driftloop_settings.alert_sections import AlertsSettings
from driftloop_settings.ports import free_port

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Mailbox:
    """answer: what the server says to a mail; refused: an address that it does not know."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.answer = "250 OK"
        self.refused = ""

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: object
    ) -> str:
        if address == self.refused:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.recipients.append(envelope.rcpt_tos)
        return self.answer


@contextmanager
def serving(mailbox: Mailbox) -> Iterator[int]:
    port = free_port()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


def send(mailbox: Mailbox, to: str = "mailto:ops@example.org") -> None:
    message = compose(
        "d1",
        "mail",
        [Item(NoticeKind.OPENED, incident_of(NOW, happened="Zürich 🔥 & <b>bold</b>."))],
        "http://console",
        ZoneInfo("UTC"),
        NOW,
    )
    with serving(mailbox) as port:
        settings = AlertsSettings(
            routes=({"name": "mail", "to": to},), smtp=f"smtp://127.0.0.1:{port}", timeout_s=5.0
        )
        sender_for(settings.routes[0], settings).send(message)


def test_a_mail_arrives_as_it_was_written(mailbox: Mailbox) -> None:
    send(mailbox, "mailto:ops@example.org,night@example.org")
    (mail,) = mailbox.mails
    assert mail["Subject"] == "driftloop 1 page: m: the measured error rose"
    assert mail["Message-ID"] == "<d1@driftloop>"
    assert "Zürich 🔥 & <b>bold</b>." in mail.get_content()
    assert "http://console/incidents/i" in mail.get_content()
    assert mail.get_content_type() == "text/plain"
    assert mailbox.recipients == [["ops@example.org", "night@example.org"]]


def test_a_server_that_is_busy_is_tried_again(mailbox: Mailbox) -> None:
    mailbox.answer = "451 try later"
    with pytest.raises(Undelivered, match="it answers 451: try later"):
        send(mailbox)


def test_recipients_that_are_all_refused_are_named(mailbox: Mailbox) -> None:
    mailbox.refused = "ops@example.org"
    with pytest.raises(Undelivered, match=r"every recipient is refused.*no such mailbox"):
        send(mailbox)
    send(mailbox, "mailto:ops@example.org,night@example.org")
    assert mailbox.recipients == [["night@example.org"]]


def test_nobody_listens() -> None:
    settings = AlertsSettings(
        routes=({"name": "mail", "to": "mailto:a@b"},), smtp="smtp://127.0.0.1:1", timeout_s=1.0
    )
    message = compose("d", "mail", [], "http://c", ZoneInfo("UTC"), NOW)
    with pytest.raises(Undelivered, match="refused"):
        sender_for(settings.routes[0], settings).send(message)
