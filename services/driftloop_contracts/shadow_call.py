"""The rollout's call for an answer that nobody gets: a candidate of a language model answers a
conversation of the lake. It goes to an engine's own port, which only driftloop's processes use, and
is neither captured nor counted as traffic."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from driftloop_contracts.errors import Rejected
from driftloop_contracts.language import read_json
from driftloop_contracts.likelihood import HOP_PREFIX

PATH = "/driftloop/shadow"
_PATHS = {
    "chat.completions": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
}
_LIMITS = {
    "chat.completions": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
}
_DROPPED = ("n", "best_of", "background", "store", "metadata", "instructions", "echo")
"""Parameters that ask for more answers than one, or for something to be kept."""
COMPLETION_TOKENS = 16
"""The most tokens of a completion whose request does not say it, by OpenAI's API."""
OPERATIONS = frozenset(_PATHS)
"""The calls that a candidate answers in the shadow."""


@dataclass(frozen=True, slots=True)
class ShadowCall:
    """operation, messages, parameters: as in `driftloop_contracts.language.SIGNATURE`. max_tokens:
    of the answer. busy_above: the calls in progress above which the engine has no time for it;
    None: as the engine's hardware suggests. limit_s: the seconds after which it is given up."""

    model: str
    version: int
    operation: str
    messages: str
    parameters: str
    max_tokens: int
    busy_above: int | None = None
    limit_s: float = 60.0

    @property
    def path(self) -> str:
        return _PATHS[self.operation]

    def request(self, served: str) -> dict[str, Any]:
        """The body of the call to vLLM for the model `served`."""
        messages = read_json(self.messages)
        given = read_json(self.parameters)
        asked = {k: v for k, v in dict(given or {}).items() if k not in _DROPPED}
        names = _LIMITS[self.operation]
        said = [int(asked[name]) for name in names if asked.get(name)]
        if self.operation == "completions" and not said:
            said = [COMPLETION_TOKENS]
        asked = {k: v for k, v in asked.items() if k not in names}
        limit = min([self.max_tokens, *said])
        if asked.get("min_tokens"):
            asked["min_tokens"] = min(int(asked["min_tokens"]), limit)
        asked |= {"model": served, names[-1]: limit}
        if self.operation == "chat.completions":
            return {**asked, "messages": messages}
        if self.operation == "completions":
            return {**asked, "prompt": messages[-1]["content"]}
        return {**asked, "input": messages, "store": False}

    def headers(self) -> dict[str, str]:
        return {f"{HOP_PREFIX}model": self.model, f"{HOP_PREFIX}version": str(self.version)}

    def body(self) -> bytes:
        return json.dumps({n: v for n, v in asdict(self).items() if n not in _HEADERS}).encode()

    @classmethod
    def read(cls, headers: Mapping[str, str], body: bytes) -> "ShadowCall":
        """Parse a call. Raises Rejected if it is not the rollout's."""
        try:
            asked = json.loads(body)
            model, version = headers[f"{HOP_PREFIX}model"], int(headers[f"{HOP_PREFIX}version"])
            call = cls(model, version, **{n: asked[n] for n in _BODY})
            call.request(model)
        except (KeyError, ValueError, TypeError, AttributeError, IndexError):
            raise Rejected("only driftloop's rollout may use this call") from None
        return call


_HEADERS = ("model", "version")
_BODY = tuple(f.name for f in fields(ShadowCall) if f.name not in _HEADERS)
