"""Microsoft Teams: the address of a workflow that posts a card to a channel."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from driftloop_alerts.message import SHOWN, Message
from driftloop_alerts.senders.http_post import HttpPost

MOST_CHARS = 1_000
"""Of one paragraph."""
MOST_BYTES = 20_000
"""Of all incidents: Teams refuses messages over 28 kB."""
MOST_ACTIONS = 6
"""Teams shows no more."""
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
            "actions": list(islice(_actions(message), MOST_ACTIONS)),
        }
        content_type = "application/vnd.microsoft.card.adaptive"
        attachment = {"contentType": content_type, "content": card}
        self._post.send_json({"type": "message", "attachments": [attachment]})

    def close(self) -> None:
        self._post.close()


def _body(message: Message) -> Iterator[dict[str, Any]]:
    """As many incidents as the card has room for."""
    yield _text(message.title, weight="Bolder", size="Medium")
    left, shown = MOST_BYTES, 0
    for entry in message.entries[:SHOWN]:
        headline = _text(f"{entry.urgency.upper()} {entry.headline}", weight="Bolder")
        blocks = headline, _text(f"{entry.happened} {entry.next}")
        left -= len(json.dumps(blocks, ensure_ascii=False).encode())
        if left < 0:
            break
        shown += 1
        yield from blocks
    rest = len(message.entries) - shown + message.more
    if rest:
        yield _text(f"And {rest:,} more.")


def _actions(message: Message) -> Iterator[dict[str, str]]:
    yield _open("Open driftloop", message.link)
    for entry in message.entries[:SHOWN]:
        for action in entry.actions:
            words = f"{action.words}: {entry.model}"  # several rollouts may wait
            yield _open(words[:MOST_TITLE], action.href)


def _open(title: str, url: str) -> dict[str, str]:
    return {"type": "Action.OpenUrl", "title": title, "url": url}


def _text(text: str, **style: str) -> dict[str, Any]:
    escaped = _MARKUP.sub(r"\\\1", text[:MOST_CHARS])
    return {"type": "TextBlock", "text": escaped, "wrap": True, **style}
