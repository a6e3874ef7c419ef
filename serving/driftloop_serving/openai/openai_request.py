"""Parses a request to OpenAI's API: the model, and the key that keeps a conversation on its arm.
Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from driftloop_contracts.errors import NotFound, Rejected, shown

OPERATIONS = {
    "/v1/chat/completions": "chat.completions",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
}
"""The calls whose answers are recorded, with the value of the column `operation`."""
TOKEN_CALLS = ("/tokenize", "/detokenize")

ROLES = frozenset(("system", "developer", "user", "assistant", "tool", "function"))
PROMPTS = {
    "chat.completions": "messages",
    "completions": "prompt",
    "responses": "input",
    "embeddings": "input",
}
ENCODINGS = ("float", "base64")
"""The encodings of OpenAI. vLLM's others are not JSON: they lack the version in the body, and need
headers that are not forwarded."""
STICKY = ("prompt_cache_key", "conversation", "safety_identifier", "user")
"""Fields of a body that identify a conversation or its user, the most specific first."""
_UNTOLD = frozenset(
    ("model", "messages", "prompt", "input", "stream", "stream_options", "request_id")
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A parsed request. `named`: the model as the client wrote it: `model`, or `model@version` if
    pinned."""

    path: str
    named: str
    model: str
    pinned: str | None
    body: Mapping[str, Any]

    @property
    def operation(self) -> str | None:
        return OPERATIONS.get(self.path)


def read(path: str, content: bytes) -> Asked:
    """Parse a body. Raises Rejected if no model could answer it; the engine checks the rest."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise Rejected(f"the body is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise Rejected("the body must be a JSON object")
    named = body.get("model")
    if not isinstance(named, str) or not named:
        raise Rejected("name the `model`")
    model, at, version = named.partition("@")
    if at and not version:
        raise NotFound(f"the model {shown(named)} does not exist: write name or name@version")
    operation = OPERATIONS.get(path)
    if operation == "chat.completions":
        _check_messages(body.get("messages"))
    elif operation is not None and not body.get(PROMPTS[operation]):
        raise Rejected(f"`{PROMPTS[operation]}` is missing or empty")
    if operation == "embeddings" and body.get("encoding_format") not in (None, *ENCODINGS):
        raise Rejected(f"`encoding_format` must be one of {', '.join(ENCODINGS)}")
    return Asked(path, named, model, version or None, body)


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        raise Rejected("`messages` must be a list with at least one message")
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            raise Rejected(f"messages[{number}] must be an object")
        if message.get("role") not in ROLES:
            raise Rejected(
                f"messages[{number}].role is {shown(message.get('role'))}; it is one of "
                f"{sorted(ROLES)}"
            )


def routing_key(asked: Asked, header: str | None) -> bytes:
    """Return the key that decides the arm: the header `x-routing-key`, else the conversation or
    user named in the body, else the start of the conversation up to the first user message, which
    all its turns share."""
    if header:
        return header.encode("latin-1")
    for name in STICKY:
        value = asked.body.get(name)
        if isinstance(value, dict):
            value = value.get("id")
        if isinstance(value, str) and value:
            return value.encode()
    operation = asked.operation
    prompt = asked.body.get(PROMPTS[operation]) if operation else None
    if isinstance(prompt, list):
        prompt = _beginning(prompt)
    start = orjson.dumps([asked.body.get("instructions"), prompt])
    return hashlib.blake2b(start, digest_size=16).digest()


def _beginning(messages: list[Any]) -> list[Any]:
    for number, message in enumerate(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            return messages[: number + 1]
    return messages[:1]


def conversation(asked: Asked, prompt_number: int = 0) -> str:
    """Return the row's `messages` as JSON. `prompt_number`: the number of the prompt in a
    completions call."""
    operation, body = asked.operation, asked.body
    prompt = body.get(PROMPTS[operation]) if operation else None
    if operation == "completions" and isinstance(prompt, list) and not _is_tokens(prompt):
        prompt = prompt[prompt_number] if prompt_number < len(prompt) else prompt
    messages: list[Any] = [{"role": "user", "content": prompt}]
    if isinstance(prompt, list) and all(isinstance(message, dict) for message in prompt):
        messages = prompt
    instructions = body.get("instructions") if operation == "responses" else None
    if instructions:
        messages = [{"role": "system", "content": instructions}, *messages]
    return orjson.dumps(messages).decode()


def _is_tokens(prompt: list[Any]) -> bool:
    return bool(prompt) and isinstance(prompt[0], int)


def parameters(asked: Asked) -> str:
    """Return the other parameters of the request as JSON."""
    return orjson.dumps({k: v for k, v in asked.body.items() if k not in _UNTOLD}).decode()
