"""How likely a text is under a served version: the monitor asks an engine's own port, which only
driftloop's processes reach. It is not a prediction: neither captured nor counted as traffic."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from driftloop_contracts.errors import Rejected

HOP_PREFIX = "x-driftloop-"
"""Of the headers that driftloop's processes send to an engine's port."""
PATH = "/driftloop/likelihood"
NATS = "nats_per_token"
"""Of the answer, a JSON object: the mean of -ln p over the text's tokens."""


@dataclass(frozen=True, slots=True)
class LikelihoodCall:
    """`text` as an answer to `messages`; `chat` False: as what continues their one plain prompt."""

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
        """Raises Rejected if the call comes from somebody else."""
        try:
            asked = json.loads(body)
            messages, text = tuple(asked["messages"]), asked["text"]
            model, version = headers[f"{HOP_PREFIX}model"], int(headers[f"{HOP_PREFIX}version"])
            if messages and all(isinstance(m, dict) for m in messages) and text.strip():
                return cls(model, version, messages, text, bool(asked["chat"]))
        except (KeyError, ValueError, TypeError, AttributeError):
            pass
        raise Rejected("this call is for driftloop's monitor only")
