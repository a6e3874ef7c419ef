"""PagerDuty's Events API v2.

A message triggers one event, under the incident that it names first, whatever else it names: a
storm pages once. Each incident that is over resolves its event; those that never had one are
ignored there.
"""

from typing import Any

from driftloop_alerts.message import Message, text_of
from driftloop_alerts.senders.http_post import HttpPost

SEVERITIES = {"page": "critical", "ticket": "warning", "digest": "info"}
MOST_RESOLVED = 100
"""Of one message: each is a call."""
MOST_CHARS = 1_024


class PagerDuty:
    def __init__(self, post: HttpPost, routing_key: str, source: str) -> None:
        self._post = post
        self._key = routing_key
        self._source = source

    def send(self, message: Message) -> None:
        for entry in [e for e in message.entries if e.resolved][:MOST_RESOLVED]:
            self._event("resolve", entry.incident, {})
        if not message.open_entries:
            return
        first = message.open_entries[0]
        details = {"text": text_of(message), "message": message.id}
        payload = {
            "summary": message.title[:MOST_CHARS],
            "source": self._source,
            "severity": SEVERITIES[message.urgency],
            "timestamp": message.at,
            "component": first.model or first.subject,
            "class": first.cause,
            "custom_details": details,
        }
        links = [
            {"href": first.link, "text": "Open driftloop"},
            *({"href": action.href, "text": action.words} for action in first.actions),
        ]
        self._event("trigger", first.incident, {"payload": payload, "links": links})

    def close(self) -> None:
        self._post.close()

    def _event(self, action: str, incident: str, more: dict[str, Any]) -> None:
        event = {"routing_key": self._key, "event_action": action, "dedup_key": incident}
        self._post.send_json({**event, "client": "driftloop", **more})
