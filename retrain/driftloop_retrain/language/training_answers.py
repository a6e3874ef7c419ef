"""Reads answers and the feedback on them from the lake.

The messages of a conversation have OpenAI's format, with plain texts as content.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from driftloop_contracts.language import CORRECTION, PREFERRED, RATING
from driftloop_lake.port import LakeReader, Pin

UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
COMPLETIONS, EMBEDDINGS = "completions", "embeddings"


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation, oldest message first. `chat` False: one text to be continued, which is given
    to the model without its chat template."""

    messages: tuple[Message, ...]
    chat: bool = True

    @property
    def prompt(self) -> str:
        """The last message, for people to read."""
        return self.messages[-1].content if self.messages else ""


@dataclass(frozen=True, slots=True)
class TrainingAnswer:
    """An answer to a conversation.

    rating: 0 to 1. correction: the wanted text. preferred: the text of a better answer. All are
    None without feedback. `preferred_lost`: the better answer was not read. conversation: None if
    it does not consist of texts (images, tools, a broken record).
    """

    prediction_id: str
    at: datetime
    version: int
    conversation: Conversation | None
    text: str
    finish_reason: str
    error: str | None = None
    rating: float | None = None
    correction: str | None = None
    preferred: str | None = None
    preferred_lost: bool = False


def read_answers(
    lake: LakeReader, model: str, pin: Pin, as_of: datetime, newest: int
) -> list[TrainingAnswer]:
    """Return the newest `newest` answers, and as many with each kind of feedback received up to
    `as_of`, oldest first. Embeddings are left out."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    told: dict[str, dict[tuple[str, int], Any]] = {}
    for metric in (None, RATING, CORRECTION, PREFERRED):
        table = lake.labelled(
            model,
            pin,
            as_of=as_of,
            newest=newest,
            only_labelled=metric is not None,
            metric=metric or RATING,
            tags=metric == PREFERRED,
        )
        for row in _plain(table):
            key = row["prediction_id"], row["row"]
            rows.setdefault(key, row)
            if metric is not None and row["label"] is not None:
                told.setdefault(metric, {})[key] = row
    texts = {key[0]: str(row["out_text"] or "") for key, row in rows.items()}
    found = [
        _answer(row, {m: by_key.get(key) for m, by_key in told.items()}, texts)
        for key, row in rows.items()
        if row["in_operation"] != EMBEDDINGS
    ]
    return sorted(found, key=lambda answer: (answer.at, answer.prediction_id))


def _plain(table: pa.Table) -> list[dict[str, Any]]:
    wanted = [
        "prediction_id",
        "row",
        "version",
        "predicted_at",
        "error",
        "in_messages",
        "in_operation",
        "out_text",
        "in_parameters",
        "out_tool_calls",
        "out_finish_reason",
        "label",
        "label_number",
        "label_tags",
    ]
    return list(table.select([n for n in wanted if n in table.column_names]).to_pylist())


def _answer(
    row: Mapping[str, Any], told: Mapping[str, Mapping[str, Any] | None], texts: Mapping[str, str]
) -> TrainingAnswer:
    rating, correction = told.get(RATING), told.get(CORRECTION)
    preferred, lost = _preferred(told.get(PREFERRED), texts)
    number = None if rating is None else rating["label_number"]
    tools = bool(row["out_tool_calls"]) or '"tools"' in (row["in_parameters"] or "")
    conversation = parse_conversation(
        row["in_messages"] or "", chat=row["in_operation"] != COMPLETIONS
    )
    return TrainingAnswer(
        row["prediction_id"],
        row["predicted_at"],
        row["version"],
        None if tools else conversation,
        str(row["out_text"] or ""),
        str(row["out_finish_reason"] or ""),
        row["error"],
        None if number is None else min(1.0, max(0.0, float(number))),
        None if correction is None else _text(correction["label"]),
        preferred,
        lost,
    )


def _preferred(said: Mapping[str, Any] | None, texts: Mapping[str, str]) -> tuple[str | None, bool]:
    """Return the better answer's text, and whether one was named but not found."""
    value = None if said is None else _text(said["label"])
    if said is None or value is None:
        return None, False
    if _tags(said.get("label_tags")).get("kind") == "text":
        return value, False
    if value in texts:
        return texts[value], False
    return (None, True) if UUID.match(value) else (value, False)


def _text(label: str) -> str | None:
    value = json.loads(label)
    return value if isinstance(value, str) else None


def _tags(text: str | None) -> dict[str, Any]:
    found = json.loads(text or "{}")
    return found if isinstance(found, dict) else {}


def parse_conversation(text: str, *, chat: bool = True) -> Conversation | None:
    """Parse the lake's JSON; None if it contains more than texts, or is invalid."""
    try:
        document = json.loads(text)
    except ValueError:
        return None
    if not isinstance(document, Sequence) or isinstance(document, str) or not document:
        return None
    messages = [_message(item) for item in document]
    return None if None in messages else Conversation(tuple(filter(None, messages)), chat)


def _message(item: object) -> Message | None:
    if not isinstance(item, Mapping) or item.get("tool_calls") or item.get("role") == "tool":
        return None
    role, content = item.get("role"), item.get("content")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        content = "".join(texts) if len(texts) == len(parts) else None
    if not isinstance(role, str) or not isinstance(content, str):
        return None
    return Message(role, content)
