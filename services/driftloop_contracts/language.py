"""Language models: one prediction is one answer to one conversation.

Its row has the columns of `SIGNATURE`, so spool, Kafka, archiver, lake, queries and lineage handle
it like any other prediction. Its labels arrive through `/feedback` with the metrics below.
"""

import json
from collections.abc import Mapping
from typing import Any

from driftloop_contracts.signature import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(
        # The conversation as JSON, [{"role", "content", …}, …]; a plain prompt is one user message.
        TensorSpec("messages", "BYTES", (-1,)),
        # The other parameters of the request, as JSON: temperature, max_tokens, tools, …
        TensorSpec("parameters", "BYTES", (-1,)),
        # chat.completions | completions | responses | embeddings
        TensorSpec("operation", "BYTES", (-1,)),
    ),
    outputs=(
        TensorSpec("text", "BYTES", (-1,)),
        # Tool calls as JSON, "" if there are none.
        TensorSpec("tool_calls", "BYTES", (-1,)),
        # stop | length | tool_calls | abort (the client disconnected) | error
        TensorSpec("finish_reason", "BYTES", (-1,)),
        TensorSpec("prompt_tokens", "INT32", (-1,)),
        TensorSpec("completion_tokens", "INT32", (-1,)),
        # Seconds; NaN without tokens, or with only one.
        TensorSpec("first_token_s", "FP32", (-1,)),
        TensorSpec("token_s", "FP32", (-1,)),
    ),
)

RATING = "label"
"""The quality of an answer, 0 to 1; a thumb is 0 or 1. The loop judges by this metric."""
CORRECTION = "correction"
"""The text that the answer should have been."""
PREFERRED = "preferred"
"""A better answer: the prediction id of the other answer, or its text, with the tag `kind` =
"text"."""
METRICS = (RATING, CORRECTION, PREFERRED)

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BASE_CONFIG = "config.json"
WEIGHTS_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")
"""The suffixes of the files of a language model's version."""


ANSWERED_BY = (
    "in_messages", "in_operation", "out_text", "out_tool_calls", "out_finish_reason",
)  # fmt: skip
"""The columns that `readable` reads; some may be missing."""
_NO_ANSWER = ("abort", "error")


def readable(row: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str] | None:
    """The conversation and the text of a row's answer, if a judge or a scorer can read it; None for
    tool calls, embeddings, an answer that was broken off, and a conversation that was not kept. An
    empty answer is one: it is as bad as it is."""
    messages, text = read_json(row.get("in_messages")), row.get("out_text")
    if row.get("in_operation") == "embeddings" or row.get("out_tool_calls"):
        return None
    if text is None or row.get("out_finish_reason") in _NO_ANSWER:
        return None
    told = isinstance(messages, list) and messages and all(isinstance(m, dict) for m in messages)
    return (messages, text) if told else None


def read_json(text: str | None) -> Any:
    """Parse a column with JSON; None if it is missing or invalid."""
    try:
        return json.loads(text or "null")
    except ValueError:
        return None
