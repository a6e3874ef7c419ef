"""Describes prompts and answers by numbers and categories, offline. Pure.

Checks judge these columns in place of the texts, with the same effects and significances as for the
columns of other models.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from driftloop_contracts.events import INPUT_PREFIX, OUTPUT_PREFIX
from driftloop_contracts.language import read_json
from driftloop_monitoring.text.language_detection import WORDS, language_of

EMPTY, LOOPING = "empty", "looping"
FLAGS = (EMPTY, LOOPING)
"""Boolean outputs that mark useless answers."""

MAX_WORDS = 500
LOOP_WORDS, LOOP_SHARE = 12, 0.5
_REFUSAL = re.compile(
    r"\b(i('m| am) (sorry|unable|afraid)|i (can(no|')?t|"
    r"cannot|won't|will not|must decline)|as an ai\b|"
    r"i do not have (access|the ability)|against my (guidelines|programming)|"
    r"je (suis désolé|ne peux pas)|es tut mir leid|"
    r"ich kann (leider )?(nicht|keine)|lo siento|no puedo)",
    re.IGNORECASE,
)
_REFUSAL_CHARS = 200
"""A refusal is recognisable at its beginning."""
_QUESTION = re.compile(
    r"\?|^\s*(who|what|when|where|why|how|which|is|are|do|does|can|could|should)\b", re.I
)

Value = float | str | bool | None


def described(table: pa.Table) -> pa.Table:
    """Return the rows with descriptors in place of the text columns. Rows answered with an error
    only describe their prompt."""
    texts = {
        name: _texts(table, name)
        for name in (
            "in_messages",
            "in_parameters",
            "in_operation",
            "out_text",
            "out_finish_reason",
        )
    }
    columns: dict[str, list[Value]] = {}
    for messages, parameters in zip(texts["in_messages"], texts["in_parameters"], strict=True):
        _add(columns, INPUT_PREFIX, _PROMPT, _prompt(messages, parameters))
    answers = zip(texts["out_text"], texts["out_finish_reason"], strict=True)
    for text, finish_reason in answers:
        _add(columns, OUTPUT_PREFIX, _ANSWER, _answer(text, finish_reason))
    dropped = ["in_messages", "in_parameters", "out_text", "out_tool_calls"]
    kept = table.drop_columns([name for name in dropped if name in table.column_names])
    for name, values in columns.items():
        kept = kept.append_column(name, pa.array(values, _TYPES[name.partition("_")[2]]))
    return kept


def last_prompt(messages: str | None) -> str:
    """Return the last prompt of a conversation given as JSON."""
    turns = _turns(messages)
    return _content(turns[-1]) if turns else ""


_PROMPT: Mapping[str, pa.DataType] = {
    "turns": pa.float64(), "prompt_words": pa.float64(), "prompt_word_chars": pa.float64(),
    "prompt_language": pa.string(), "question": pa.bool_(), "digits_share": pa.float64(),
    "symbols_share": pa.float64(), "system_words": pa.float64(), "max_tokens": pa.float64(),
    "temperature": pa.float64(),
}  # fmt: skip
_ANSWER: Mapping[str, pa.DataType] = {
    "answer_words": pa.float64(), "answer_word_chars": pa.float64(), "answer_lines": pa.float64(),
    "answer_language": pa.string(), "repetition": pa.float64(), "refusal": pa.bool_(),
    EMPTY: pa.bool_(), LOOPING: pa.bool_(), "truncated": pa.bool_(),
}  # fmt: skip
_TYPES = {**_PROMPT, **_ANSWER}


def _add(
    columns: dict[str, list[Value]],
    prefix: str,
    names: Mapping[str, object],
    values: Mapping[str, Value],
) -> None:
    for name in names:
        columns.setdefault(prefix + name, []).append(values.get(name))


def _prompt(messages: str | None, parameters: str | None) -> dict[str, Value]:
    turns = _turns(messages)
    if not turns:
        return {}
    text = _content(turns[-1])
    words = WORDS.findall(text)
    length = max(len(text), 1)
    asked = read_json(parameters)
    asked = asked if isinstance(asked, dict) else {}
    system = "".join(_content(t) for t in turns if t.get("role") in ("system", "developer"))
    return {
        "turns": float(len(turns)),
        "prompt_words": float(len(words)),
        "prompt_word_chars": _mean_length(words),
        "prompt_language": language_of(text),
        "question": bool(_QUESTION.search(text)),
        "digits_share": sum(c.isdigit() for c in text) / length,
        "symbols_share": sum(not c.isalnum() and not c.isspace() for c in text) / length,
        "system_words": float(len(WORDS.findall(system))),
        "max_tokens": _number(asked.get("max_tokens", asked.get("max_completion_tokens"))),
        "temperature": _number(asked.get("temperature")),
    }


def _answer(text: str | None, finish_reason: str | None) -> dict[str, Value]:
    if text is None or finish_reason == "abort":
        return {}
    words = WORDS.findall(text.lower())[:MAX_WORDS]
    repeated = repetition(words)
    return {
        "answer_words": float(len(words)),
        "answer_word_chars": _mean_length(words),
        "answer_lines": float(len(text.splitlines())),
        "answer_language": language_of(text),
        "repetition": repeated,
        "refusal": bool(_REFUSAL.search(text[:_REFUSAL_CHARS])),
        EMPTY: finish_reason != "tool_calls" and not text.strip(),
        LOOPING: len(words) >= LOOP_WORDS and repeated >= LOOP_SHARE,
        "truncated": finish_reason == "length",
    }


def repetition(words: Sequence[str]) -> float:
    """Return the share of three-word sequences that occurred before in the text."""
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return 1.0 - len(set(triples)) / len(triples) if triples else 0.0


def _mean_length(words: Sequence[str]) -> float | None:
    return sum(map(len, words)) / len(words) if words else None


def _number(value: object) -> float | None:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain else None  # type: ignore[arg-type]


def _texts(table: pa.Table, name: str) -> list[str | None]:
    if name not in table.column_names:
        return [None] * int(table.num_rows)
    found: list[str | None] = table[name].to_pylist()
    return found


def _turns(messages: str | None) -> list[Mapping[str, Any]]:
    found = read_json(messages)
    return [t for t in found if isinstance(t, dict)] if isinstance(found, list) else []


def _content(turn: Mapping[str, Any]) -> str:
    """Return the text of a message, or of its text parts."""
    content = turn.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return " ".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
