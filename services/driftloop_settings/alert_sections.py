"""Settings of alerts: the routes that incidents take to people."""

import re
from importlib.util import find_spec
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from driftloop_settings.addresses import web_origin
from driftloop_settings.schedule import time_zone
from driftloop_settings.section import Section, nearest

SCHEMES = {
    "https": "https://HOST/PATH",
    "http": "http://HOST/PATH",
    "slack": "slack://hooks.slack.com/services/…",
    "slack+http": "slack+http://HOST/PATH",
    "teams": "teams://HOST/PATH of the workflow's address",
    "teams+http": "teams+http://HOST/PATH",
    "pagerduty": "pagerduty://ROUTING_KEY, or pagerduty://ROUTING_KEY@events.eu.pagerduty.com",
    "pagerduty+http": "pagerduty+http://ROUTING_KEY@HOST",
    "mailto": "mailto:NAME@HOST, with `alerts.smtp`",
    "alertmanager": "alertmanager://HOST:9093",
    "alertmanager+https": "alertmanager+https://HOST/PREFIX",
    "apprise": "apprise:URL of Apprise, with the extra `alerts`",
}
"""How `to` is written, by what it begins with. With `+http` the receiver is asked without TLS, for
one in the same network."""
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_MAIL = re.compile(r"[^@\s<>,;\"]+@[^@\s<>,;\"]+")


SHORTEST_KEY = 32


def scheme_of(to: str) -> str:
    """Raises ValueError, which does not show the rest: it may be a secret."""
    scheme = to.partition(":")[0]
    if ":" not in to:
        raise ValueError(f"it has no scheme, such as {SCHEMES['https']} or {SCHEMES['slack']}")
    if scheme not in SCHEMES:
        best = nearest(scheme, SCHEMES)
        raise ValueError(f"unknown scheme {scheme[:32]!r}; did you mean {SCHEMES[best]}?")
    return scheme


def mail_addresses(to: str) -> tuple[str, ...]:
    """Of `mailto:a@b,c@d`."""
    return tuple(part.strip() for part in to.removeprefix("mailto:").split(",") if part.strip())


def _destination(secret: SecretStr) -> SecretStr:
    to = secret.get_secret_value()
    scheme = scheme_of(to)
    if scheme == "mailto":
        if not mail_addresses(to) or not all(map(_MAIL.fullmatch, mail_addresses(to))):
            raise ValueError(f"write {SCHEMES['mailto']}")
    elif scheme == "apprise":
        if "://" not in to:
            raise ValueError(f"write {SCHEMES['apprise']}")
        if find_spec("apprise") is None:
            raise ValueError('apprise: needs `pip install "driftloop[alerts]"`')
    else:
        parts = urlsplit(to)
        try:
            named = parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:
            named = False
        if not named or "://" not in to:
            raise ValueError(f"write {SCHEMES[scheme]}")
    return secret


def _hours(text: str | None) -> str | None:
    if text is not None and (
        not _HOURS.fullmatch(text) or text.partition("-")[0] == text.partition("-")[2]
    ):
        raise ValueError(f"{text!r} is not a range of hours, such as 22:00-06:00")
    return text


def _time_of_day(text: str) -> str:
    if not _TIME.fullmatch(text):
        raise ValueError(f"{text!r} is not a time of day, such as 09:00")
    return text


def _smtp(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None:
        try:
            parts = urlsplit(secret.get_secret_value())
            good = parts.scheme in ("smtp", "smtps") and parts.hostname
            _ = parts.port
        except ValueError:
            good = False
        if not good:
            raise ValueError("write smtp://USER:PASSWORD@HOST:587, or smtps:// for TLS at once")
    return secret


def _link(address: str | None) -> str | None:
    if address == "*":
        raise ValueError("write the console's address, such as https://driftloop.example")
    return address and web_origin(address)


def _web_address(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and not re.match(r"https?://[^/\s]+", secret.get_secret_value()):
        raise ValueError("write https://HOST/PATH")
    return secret


def _key(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and len(secret.get_secret_value()) < SHORTEST_KEY:
        raise ValueError(f"write at least {SHORTEST_KEY} characters that nobody can guess")
    return secret


class RouteSettings(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    """The route's name, in messages and in the log."""
    to: Annotated[SecretStr, AfterValidator(_destination)]
    """The receiver; it is never shown."""
    models: tuple[Annotated[str, Field(min_length=1)], ...] = Field(("*",), min_length=1)
    """Patterns of the models' names, such as `loans*`. What concerns the whole stack is sent on
    every route."""
    severity: Literal["page", "ticket", "digest"] = "ticket"
    """This and above: `page`, `ticket` (and pages), or `digest` (everything)."""
    hours: Annotated[str | None, AfterValidator(_hours)] = None
    """When it is used, such as 22:00-06:00 in `alerts.timezone`; what comes at other times waits
    until then. None: always."""
    repeat_s: float = Field(14_400.0, ge=0)
    """Seconds after which an incident that is still open is sent again; 0: never."""
    group_s: float = Field(300.0, ge=0)
    """The least seconds between two messages; what comes meanwhile is in one message."""
    resolved: bool = True
    """Whether the end of an incident is sent."""
    secret: SecretStr | None = None
    """The key of the signature of web hooks; it is never shown."""
    links: bool = True
    """Whether messages have links to approve or roll back, which all of their readers can use."""


class AlertsSettings(Section):
    routes: tuple[RouteSettings, ...] = ()
    """The ways to people, each `[[alerts.routes]]` with a `name`, `to`, and optional `models`,
    `severity`, `hours`, `repeat_s`, `group_s`, `resolved`, `secret` and `links`."""
    timezone: Annotated[str, AfterValidator(time_zone)] = "UTC"
    """The time zone of the routes' hours, of `digest_at` and of the times in messages, such as
    Europe/Berlin."""
    digest_at: Annotated[str, AfterValidator(_time_of_day)] = "09:00"
    """The time of day at which incidents of severity `digest` are sent."""
    link: Annotated[str | None, AfterValidator(_link)] = None
    """The address of the console in messages, such as https://driftloop.example; None: the one that
    the control API listens on."""
    links_s: float = Field(86_400.0, ge=0)
    """Seconds for which a link to approve or roll back works; 0: messages have none."""
    links_secret: Annotated[SecretStr | None, AfterValidator(_key)] = None
    """The key that signs these links, the same on each machine that runs `alerts` or `gateway`;
    None: one that is made in the state directory. It is never shown."""
    smtp: Annotated[SecretStr | None, AfterValidator(_smtp)] = None
    """The mail server of `mailto:` routes, as smtp://USER:PASSWORD@HOST:587 (STARTTLS where the
    server offers it) or smtps://; it is never shown."""
    mail_from: str = "driftloop@localhost"
    """The sender of mails."""
    heartbeat_url: Annotated[SecretStr | None, AfterValidator(_web_address)] = None
    """An address that is asked (POST) every `heartbeat_s` while alerts work: a dead man's switch
    elsewhere notices when it is not. It is never shown."""
    heartbeat_s: float = Field(60.0, ge=1)
    """Seconds between two heartbeats."""
    interval_s: float = Field(2.0, gt=0)
    """Seconds between two looks for incidents."""
    timeout_s: float = Field(10.0, gt=0, le=300)
    """Seconds that a receiver may take to answer."""
    false_per_month: float = Field(1.0, gt=0)
    """False alerts on a risen error in a month, at most, on average, of all models together."""

    @model_validator(mode="after")
    def _routes_can_be_used(self) -> "AlertsSettings":
        names: set[str] = set()
        for number, route in enumerate(self.routes):
            if route.name in names:
                raise ValueError(f"routes.{number}.name: two routes are called {route.name!r}")
            names.add(route.name)
            if route.to.get_secret_value().startswith("mailto:") and self.smtp is None:
                raise ValueError(f"routes.{number}.to: mailto: needs `alerts.smtp`, a mail server")
        return self
