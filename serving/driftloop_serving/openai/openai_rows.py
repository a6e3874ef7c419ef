"""Converts answers of a language model to rows of `driftloop_contracts.language.SIGNATURE`.
Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Any

import numpy as np
import orjson

from driftloop_contracts.language import SIGNATURE
from driftloop_serving.inference.datatypes import DTYPES
from driftloop_serving.openai.openai_request import Asked, conversation, parameters
from driftloop_vllm.generation import Choice

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Row:
    """One answer, with the names of the signature's outputs. `prompt_number`: the number of its
    prompt."""

    text: str = ""
    tool_calls: str = ""
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_token_s: float = nan
    token_s: float = nan
    prompt_number: int = 0


def inputs_of(asked: Asked, rows: Sequence[Row]) -> Arrays:
    told = parameters(asked)
    values = {
        "messages": [conversation(asked, row.prompt_number) for row in rows],
        "parameters": [told] * len(rows),
        "operation": [asked.operation or ""] * len(rows),
    }
    return {spec.name: np.array(values[spec.name], dtype=object) for spec in SIGNATURE.inputs}


def outputs_of(rows: Sequence[Row]) -> Arrays:
    return {
        spec.name: np.array(
            [getattr(row, spec.name) for row in rows],
            object if spec.datatype == "BYTES" else DTYPES[spec.datatype],
        )
        for spec in SIGNATURE.outputs
    }


def row_of(choice: Choice, unfinished: str, tool_calls: list[Any] | None, number: int = 0) -> Row:
    """unfinished: the finish reason of an answer that has none."""
    row = Row(
        choice.text,
        "",
        choice.finish_reason or unfinished,
        choice.prompt_tokens,
        choice.completion_tokens,
        choice.first_token_s,
        choice.token_s,
        number,
    )
    if not tool_calls:
        return row
    reason = "tool_calls" if row.finish_reason == "stop" else row.finish_reason
    return replace(row, tool_calls=orjson.dumps(tool_calls).decode(), finish_reason=reason)


def tool_calls_of(document: Mapping[str, Any]) -> dict[int, list[Any]]:
    """Return the tool calls of a complete answer by the choice's index (responses: all under 0)."""
    found = {
        choice["index"]: choice["message"]["tool_calls"]
        for choice in document.get("choices", ())
        if choice.get("message", {}).get("tool_calls")
    }
    called = [item for item in document.get("output", ()) if item.get("type") == "function_call"]
    return found or ({0: called} if called else {})


class StreamedToolCalls:
    """Assembles tool calls from the events of a chat stream. A stream of `responses` contains them
    completely in its last event."""

    def __init__(self) -> None:
        self._calls: dict[int, dict[int, dict[str, Any]]] = {}
        self._whole: dict[int, list[Any]] = {}

    def read(self, chunk: bytes) -> None:
        for line in chunk.split(b"\n"):
            if not line.startswith(b"data: {"):
                continue
            try:
                document = orjson.loads(line[6:])
            except orjson.JSONDecodeError:
                continue
            self._whole = tool_calls_of(document.get("response") or {}) or self._whole
            for choice in document.get("choices", ()):
                for part in choice.get("delta", {}).get("tool_calls") or ():
                    self._add(choice["index"], part)

    def _add(self, index: int, part: Mapping[str, Any]) -> None:
        call = self._calls.setdefault(index, {}).setdefault(
            part["index"],
            {"id": None, "type": "function", "function": {"name": "", "arguments": ""}},
        )
        call["id"] = part.get("id") or call["id"]
        function = part.get("function") or {}
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""

    @property
    def found(self) -> dict[int, list[Any]]:
        parts = {index: [calls[n] for n in sorted(calls)] for index, calls in self._calls.items()}
        return parts or self._whole
