"""Microsoft Teams: the address of a workflow that posts a card to a channel."""

import re
from collections.abc import Iterator
from typing import Any

from driftloop_alerts.message import SHOWN, Message
from driftloop_alerts.senders.http_post import HttpPost

MOST_CHARS = 1_000
"""Of one paragraph: Teams refuses cards over 28 kB."""
MOST_TITLE = 60
_MARKUP = re.compile(r"([\\`*_{}\[\]()#~|<>])")


class Teams:
    def __init__(self, post: HttpPost) -> None:
        self._post = post

    def send(self, message: Message) -> None:
        card = {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "body": list(_body(message)),
            "actions": list(_actions(message)),
        }
        content_type = "application/vnd.microsoft.card.adaptive"
        attachment = {"contentType": content_type, "content": card}
        self._post.send_json({"type": "message", "attachments": [attachment]})

    def close(self) -> None:
        self._post.close()


def _body(message: Message) -> list[dict[str, Any]]:
    blocks = [_text(message.title, weight="Bolder", size="Medium")]
    for entry in message.entries[:SHOWN]:
        blocks.append(_text(f"{entry.urgency.upper()} {entry.headline}", weight="Bolder"))
        blocks.append(_text(f"{entry.happened} {entry.next}"))
    rest = len(message.entries[SHOWN:]) + message.more
    return [*blocks, _text(f"And {rest:,} more.")] if rest else blocks


def _actions(message: Message) -> Iterator[dict[str, str]]:
    yield _open("Open driftloop", message.link)
    shown = message.entries[:SHOWN]
    for entry in shown:
        for action in entry.actions:
            # Several rollouts may wait.
            words = f"{action.words}: {entry.model}"
            yield _open(words[:MOST_TITLE], action.href)


def _open(title: str, url: str) -> dict[str, str]:
    return {"type": "Action.OpenUrl", "title": title, "url": url}


def _text(text: str, **style: str) -> dict[str, Any]:
    escaped = _MARKUP.sub(r"\\\1", text[:MOST_CHARS])
    return {"type": "TextBlock", "text": escaped, "wrap": True, **style}
