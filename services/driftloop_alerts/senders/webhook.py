"""A web hook: the message as JSON, signed.

`x-driftloop-signature` is `v1=` and the hexadecimal HMAC-SHA256, under the route's `secret`, of
`x-driftloop-timestamp`, a full stop and the body. `idempotency-key` is the same whenever a message
is sent again.
"""

import hmac
import json
from collections.abc import Callable
from time import time

from driftloop_alerts.message import Message
from driftloop_alerts.senders.http_post import HttpPost

MOST = 100
"""Incidents in one body; `more` counts the others."""


class Webhook:
    def __init__(
        self, post: HttpPost, secret: str | None, unix_s: Callable[[], float] = time
    ) -> None:
        self._post = post
        self._secret = secret
        self._unix_s = unix_s

    def send(self, message: Message) -> None:
        body = message.to_dict()
        body["more"] += max(0, len(body["entries"]) - MOST)
        body["entries"] = body["entries"][:MOST]
        content = json.dumps(body, ensure_ascii=False).encode()
        timestamp = str(int(self._unix_s()))
        headers = {"idempotency-key": message.id, "x-driftloop-timestamp": timestamp}
        if self._secret is not None:
            headers["x-driftloop-signature"] = signature(self._secret, timestamp, content)
        self._post.send(content, headers)

    def close(self) -> None:
        self._post.close()


def signature(secret: str, timestamp: str, content: bytes) -> str:
    signed = timestamp.encode() + b"." + content
    return "v1=" + hmac.new(secret.encode(), signed, "sha256").hexdigest()
