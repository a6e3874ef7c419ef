"""An existing Alertmanager (v2 API): it groups, silences and repeats in its own way."""

from datetime import datetime, timedelta
from typing import Any

from driftloop_alerts.message import WORDS, Entry, Message
from driftloop_alerts.senders.http_post import HttpPost
from driftloop_alerts.senders.pagerduty import SEVERITIES

FOREVER = timedelta(days=3_650)
"""Without an end Alertmanager would resolve an alert after `resolve_timeout`."""


class Alertmanager:
    def __init__(self, post: HttpPost) -> None:
        self._post = post

    def send(self, message: Message) -> None:
        self._post.send_json([_alert(entry) for entry in message.entries])

    def close(self) -> None:
        self._post.close()


def _alert(entry: Entry) -> dict[str, Any]:
    opened = datetime.fromisoformat(entry.opened_at)
    return {
        "labels": {
            "alertname": f"driftloop_{entry.cause}",
            "source": "driftloop",
            "severity": SEVERITIES[entry.urgency],
            "incident": entry.incident,
            # A label that is empty is one that is not there.
            **({"model": entry.model} if entry.model else {}),
            **({"subject": entry.subject} if entry.subject else {}),
        },
        "annotations": {
            "summary": WORDS.get(entry.cause, entry.cause),
            "description": f"{entry.happened} {entry.next}",
        },
        "startsAt": entry.opened_at,
        "endsAt": entry.resolved_at if entry.resolved else (opened + FOREVER).isoformat(),
        "generatorURL": entry.link,
    }
