"""Clients of a language model that ask in many ways and often leave, and what they saw."""

import asyncio
import json
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

Kind = Literal[
    "chat",
    "chat stream",
    "completions stream",
    "responses stream",
    "two choices",
    "structured",
    "too long",
    "leaves at once",
    "leaves a stream",
    "cuts off",
]
KINDS: dict[Kind, int] = {
    "chat": 4, "chat stream": 4, "completions stream": 3, "responses stream": 3, "two choices": 2,
    "structured": 2, "too long": 1, "leaves at once": 3, "leaves a stream": 4, "cuts off": 2,
}  # fmt: skip
"""How often, relative to one another. `leaves at once`: before the first chunk, or at it; `cuts
off`: resets the connection while an answer that comes whole is being made."""
CONTEXT = 512
"""Tokens that the model must be served with: the longest call takes fewer, one that is too long
more."""
TIMEOUT_S = 600.0
RATED_SHARE, THUMBS_UP = 0.3, 0.8
SDK_SHARE = 0.5
"""Of the calls: they say what OpenAI's SDK says, so that their answers are kept for a second
try."""
REPEATED_SHARE = 0.15
"""Of the prompts: one of few; the others are new each time."""
PREFACE = "You are a careful assistant. Say what is asked for and nothing else."
CHOICES = ("yes", "no", "perhaps")
VOCABULARY = (
    "the a of and to in is it that for with from this name value list file text line first last "
    "new "
    "open read write call return type class object string number time test path error key set get "
    "state order point place water house story city day night color small large find make take"
)
WORDS = VOCABULARY.split()
PREDICTION_ID = re.compile(rb"\r\nx-prediction-id: *([^\r]+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Call:
    """`rows`: of its answer, in the lake. `chunks`: after so many its client leaves; `patience_s`:
    so long it waits for an answer's head."""

    kind: Kind
    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    rows: int = 1
    chunks: int | None = None
    patience_s: float | None = None
    thumb: str | None = None


@dataclass
class Seen:
    """By all clients. `complete`: rows by the ids of the answers that came whole; `left`: ids of
    those that their clients left; `unseen`: calls left before their id was known; `failures`: by
    kind and reason."""

    calls: Counter[Kind] = field(default_factory=Counter)
    complete: dict[str, int] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    rated: set[str] = field(default_factory=set)
    unseen: int = 0
    refused: int = 0
    failures: Counter[str] = field(default_factory=Counter)


class Unexpected(Exception):
    """An answer that is not what the call must get."""


def draw(rng: random.Random, model: str) -> Call:
    kind: Kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    prompt = _prompt(rng)
    tokens = rng.choice((1, 8, 32, 96))
    headers = {"x-stainless-retry-count": "0"} if rng.random() < SDK_SHARE else {}
    thumb = None
    if rng.random() < RATED_SHARE:
        thumb = "up" if rng.random() < THUMBS_UP else "down"
    if kind == "completions stream":
        body = {"model": model, "prompt": prompt, "max_tokens": tokens, "stream": True}
        return Call(kind, "/v1/completions", body, headers, thumb=thumb)
    if kind == "responses stream":
        body = {"model": model, "input": prompt, "max_output_tokens": tokens, "stream": True}
        return Call(kind, "/v1/responses", body, headers, thumb=thumb)
    messages = [{"role": "user", "content": prompt}]
    if rng.random() < 0.3:
        messages.insert(0, {"role": "system", "content": PREFACE})
    body = {"model": model, "messages": messages, "max_tokens": tokens}
    path, long_answer = "/v1/chat/completions", {"max_tokens": 160, "ignore_eos": True}
    match kind:
        case "chat stream":
            return Call(kind, path, {**body, "stream": True}, headers, thumb=thumb)
        case "two choices":
            return Call(kind, path, {**body, "n": 2}, headers, rows=2)
        case "structured":
            wanted = {"structured_outputs": {"choice": CHOICES}, "max_tokens": 16}
            return Call(kind, path, {**body, **wanted}, headers, thumb=thumb)
        case "too long":
            return Call(kind, "/v1/completions", {"model": model, "prompt": "value " * 2 * CONTEXT})
        case "leaves at once":
            asked = {**body, **long_answer, "stream": True}
            return Call(kind, path, asked, headers, patience_s=rng.uniform(0, 0.3))
        case "leaves a stream":
            asked = {**body, **long_answer, "stream": True}
            return Call(kind, path, asked, headers, chunks=rng.randint(1, 24))
        case "cuts off":
            asked = {**body, **long_answer}
            return Call(kind, path, asked, headers, patience_s=rng.uniform(0.05, 1.5))
    return Call(kind, path, body, headers, thumb=thumb)


def _prompt(rng: random.Random) -> str:
    if rng.random() < REPEATED_SHARE:
        rng = random.Random(rng.randrange(8))
    return " ".join(rng.choices(WORDS, k=rng.randint(4, 90)))


async def client(url: str, model: str, rng: random.Random, seen: Seen, stop: asyncio.Event) -> None:
    """Asks one call after another until `stop`."""
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as http:
        while not stop.is_set():
            call = draw(rng, model)
            seen.calls[call.kind] += 1
            try:
                await _ask(http, call, seen)
            except (httpx.HTTPError, OSError, EOFError, KeyError, ValueError, Unexpected) as error:
                seen.failures[f"{call.kind}: {error!r}"[:200]] += 1
                await asyncio.sleep(1.0)  # what is away is not asked again at once


async def _ask(http: httpx.AsyncClient, call: Call, seen: Seen) -> None:
    if call.patience_s is not None:
        prediction_id = await _hang_up(http.base_url, call, hard=call.kind == "cuts off")
        if prediction_id is None:
            seen.unseen += 1
        else:
            seen.left.add(_new(prediction_id, seen))
        return
    if call.body.get("stream"):
        prediction_id, whole = await _stream(http, call)
    else:
        answer = await http.post(call.path, json=call.body, headers=call.headers)
        if call.kind == "too long":
            _require(answer.status_code == 400, answer.text)
            seen.refused += 1
            return
        prediction_id, whole = _read_whole(answer, call), True
    if not whole:
        seen.left.add(_new(prediction_id, seen))
        return
    seen.complete[_new(prediction_id, seen)] = call.rows
    if call.thumb is not None:
        told = {"prediction_id": prediction_id, "thumb": call.thumb}
        (await http.post("/feedback", json=told)).raise_for_status()
        seen.rated.add(prediction_id)


def _read_whole(answer: httpx.Response, call: Call) -> str:
    _require(answer.status_code == 200, f"{answer.status_code} {answer.text}")
    document = answer.json()
    _require(document["id"] == answer.headers["x-prediction-id"], "another id in the header")
    texts = [choice["message"]["content"] for choice in document["choices"]]
    _require(len(texts) == call.rows, f"{len(texts)} choices")
    _require(call.kind != "structured" or texts[0] in CHOICES, f"chose {texts[0]!r}")
    return str(document["id"])


async def _stream(http: httpx.AsyncClient, call: Call) -> tuple[str, bool]:
    """The id, and whether the stream came to its end."""
    asked = http.stream("POST", call.path, json=call.body, headers=call.headers)
    async with asked as answer:
        if answer.status_code != 200:
            raise Unexpected(f"{answer.status_code} {(await answer.aread()).decode()}")
        prediction_id = answer.headers["x-prediction-id"]
        chunks, last = 0, ""
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            if chunks == call.chunks:
                return prediction_id, False
            chunks, last = chunks + 1, line.removeprefix("data: ")
    ended = last == "[DONE]" or json.loads(last or "{}").get("type") == "response.completed"
    _require(ended, f"the stream ended with {last}")
    return prediction_id, True


async def _hang_up(url: httpx.URL, call: Call, *, hard: bool) -> str | None:
    """Leave after the call's patience, `hard` with a reset. The id, where the head had come by
    then."""
    content = json.dumps(call.body).encode()
    told = {
        "host": url.netloc.decode(),
        "content-type": "application/json",
        "content-length": str(len(content)),
        **call.headers,
    }
    lines = [f"POST {call.path} HTTP/1.1", *(f"{k}: {v}" for k, v in told.items()), "", ""]
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write("\r\n".join(lines).encode() + content)
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), call.patience_s)
        except TimeoutError:
            return None
        found = PREDICTION_ID.search(head)
        if found is None or not head.startswith(b"HTTP/1.1 200"):
            raise Unexpected(head.decode("latin-1"))
        return found[1].decode()
    finally:
        if hard:
            gone_at_once = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, gone_at_once
            )
        writer.transport.abort()


def _new(prediction_id: str, seen: Seen) -> str:
    known = prediction_id in seen.complete or prediction_id in seen.left
    _require(not known, f"the id {prediction_id} was another answer's")
    return prediction_id


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Unexpected(otherwise)
