"""The sender of a route, by the scheme of its `to`."""

import socket
from urllib.parse import urlsplit

from driftloop_alerts.senders.alertmanager import Alertmanager
from driftloop_alerts.senders.http_post import HttpPost
from driftloop_alerts.senders.pagerduty import PagerDuty
from driftloop_alerts.senders.port import Sender
from driftloop_alerts.senders.slack import Slack
from driftloop_alerts.senders.smtp import Mail
from driftloop_alerts.senders.teams import Teams
from driftloop_alerts.senders.webhook import Webhook
from driftloop_contracts.errors import Rejected
from driftloop_settings.alert_sections import (
    AlertsSettings,
    RouteSettings,
    mail_addresses,
    scheme_of,
)

PAGERDUTY = "events.pagerduty.com"
CHATS: dict[str, type[Slack] | type[Teams]] = {"slack": Slack, "teams": Teams}


def check_routes(alerts: AlertsSettings) -> None:
    """Raises Rejected for an address that Apprise does not know; the settings have checked the
    others."""
    for route in alerts.routes:
        to = route.to.get_secret_value()
        if scheme_of(to) == "apprise":
            from driftloop_alerts.senders.apprise_sender import AppriseSender

            if not AppriseSender(to.partition(":")[2]).known:
                raise Rejected(
                    f"alerts.routes, {route.name!r}: `to` is an address that Apprise does not know"
                )


def sender_for(route: RouteSettings, alerts: AlertsSettings) -> Sender:
    """The settings have checked `to`."""
    to, timeout_s = route.to.get_secret_value(), alerts.timeout_s
    kind, _, transport = scheme_of(to).partition("+")
    if kind == "mailto":
        server = alerts.smtp.get_secret_value() if alerts.smtp else ""
        return Mail(server, alerts.mail_from, mail_addresses(to), timeout_s)
    if kind == "apprise":
        from driftloop_alerts.senders.apprise_sender import AppriseSender

        return AppriseSender(to.partition(":")[2])
    if kind in ("http", "https"):
        secret = route.secret.get_secret_value() if route.secret else None
        return Webhook(HttpPost(to, timeout_s), secret)
    address = to.partition("://")[2]
    if kind == "pagerduty":
        key, _, host = urlsplit(to).netloc.rpartition("@") if "@" in to else (address, "", "")
        url = f"{transport or 'https'}://{host or PAGERDUTY}/v2/enqueue"
        return PagerDuty(HttpPost(url, timeout_s), key.strip("/"), socket.gethostname())
    if kind == "alertmanager":
        url = f"{transport or 'http'}://{address.rstrip('/')}/api/v2/alerts"
        return Alertmanager(HttpPost(url, timeout_s))
    return CHATS[kind](HttpPost(f"{transport or 'https'}://{address}", timeout_s))
