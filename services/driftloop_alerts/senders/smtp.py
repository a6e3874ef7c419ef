"""Mail."""

import smtplib
import ssl
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import unquote, urlsplit

import structlog

from driftloop_alerts.message import Message, text_of
from driftloop_alerts.senders.port import Undelivered
from driftloop_contracts.loopback import is_loopback

log = structlog.get_logger()


class Mail:
    """server: smtp://USER:PASSWORD@HOST:PORT, or smtps://. Without a password TLS is used where the
    server offers it; a password is given to nobody but the server that its certificate names."""

    def __init__(self, server: str, sender: str, to: tuple[str, ...], timeout_s: float) -> None:
        parts = urlsplit(server)
        self._tls_at_once = parts.scheme == "smtps"
        self._host = parts.hostname or ""
        self._port = parts.port or (465 if self._tls_at_once else 25)
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._sender, self._to, self._timeout_s = sender, to, timeout_s

    def send(self, message: Message) -> None:
        try:
            with self._connected() as connection:
                if self._user:
                    connection.login(self._user, self._password)
                refused = connection.send_message(self._mail(message), self._sender, self._to)
        except smtplib.SMTPRecipientsRefused as error:
            raise Undelivered(f"every recipient is refused: {_first(error.recipients)}") from None
        except smtplib.SMTPResponseException as error:
            raise Undelivered(f"it answers {error.smtp_code}: {_text(error.smtp_error)}") from None
        except TimeoutError:
            raise Undelivered(f"no answer within {self._timeout_s:g} s") from None
        except (smtplib.SMTPException, OSError, UnicodeError) as error:
            raise Undelivered(f"{type(error).__name__}: {error}") from None
        for address in refused:
            log.warning("alerts.recipient_refused", to=address, said=_first({address: refused}))

    def close(self) -> None:
        """Each message has its own connection."""

    def _connected(self) -> smtplib.SMTP:
        verified = ssl.create_default_context()
        if self._tls_at_once:
            return smtplib.SMTP_SSL(
                self._host, self._port, timeout=self._timeout_s, context=verified
            )
        connection = smtplib.SMTP(self._host, self._port, timeout=self._timeout_s)
        try:
            connection.ehlo()
            if connection.has_extn("starttls"):
                connection.starttls(context=verified if self._user else _unverified())
                connection.ehlo()
            elif self._user:
                _require_loopback(self._host)
        except BaseException:
            connection.close()
            raise
        return connection

    def _mail(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        mail["Subject"] = message.title[:200]
        mail["From"], mail["To"] = self._sender, ", ".join(self._to)
        mail["Date"] = format_datetime(datetime.fromisoformat(message.at))
        # The same when it is sent again: mail servers and readers show it once.
        mail["Message-ID"] = f"<{message.id}@driftloop>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(text_of(message))
        return mail


def _require_loopback(host: str) -> None:
    if not is_loopback(host):
        raise Undelivered("it offers no TLS, so the password of alerts.smtp is kept")


def _unverified() -> ssl.SSLContext:
    """No worse than no TLS, which is what else there would be."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _first(refused: object) -> str:
    return " ".join(str(refused).split())[:200]


def _text(said: bytes | str) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said
