"""The monitor's call for the likelihood of a text under a served version. It goes to an engine's
own port, which only driftloop's processes use, and is neither captured nor counted as traffic."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from driftloop_contracts.errors import Rejected

HOP_PREFIX = "x-driftloop-"
"""The prefix of headers that driftloop's processes send to an engine's port."""
PATH = "/driftloop/likelihood"
NATS = "nats_per_token"
"""The key in the answer (a JSON object) for the mean of -ln p over the text's tokens."""


@dataclass(frozen=True, slots=True)
class LikelihoodCall:
    """The score of `text` as an answer to `messages`; `chat` False: as the continuation of their
    one plain prompt."""

    model: str
    version: int
    messages: tuple[Mapping[str, Any], ...]
    text: str
    chat: bool = True

    def headers(self) -> dict[str, str]:
        return {f"{HOP_PREFIX}model": self.model, f"{HOP_PREFIX}version": str(self.version)}

    def body(self) -> bytes:
        body = {"messages": list(self.messages), "text": self.text, "chat": self.chat}
        return json.dumps(body).encode()

    @classmethod
    def read(cls, headers: Mapping[str, str], body: bytes) -> "LikelihoodCall":
        """Parse a call. Raises Rejected if it is not the monitor's."""
        try:
            asked = json.loads(body)
            messages, text = tuple(asked["messages"]), asked["text"]
            model, version = headers[f"{HOP_PREFIX}model"], int(headers[f"{HOP_PREFIX}version"])
            if messages and all(isinstance(m, dict) for m in messages) and text.strip():
                return cls(model, version, messages, text, bool(asked["chat"]))
        except (KeyError, ValueError, TypeError, AttributeError):
            pass
        raise Rejected("only driftloop's monitor may use this call")
