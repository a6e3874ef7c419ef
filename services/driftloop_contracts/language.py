"""Language models as driftloop keeps them: one prediction is one answer to one conversation.

Its row has the columns of `SIGNATURE`, so that spool, Kafka, archiver, lake, queries and lineage
treat it as any other prediction. Its labels come through `/feedback` under the metrics below.
"""

import json
from typing import Any

from driftloop_contracts.signature import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(
        # The conversation as JSON, [{"role", "content", …}, …]; a plain prompt is one user message.
        TensorSpec("messages", "BYTES", (-1,)),
        # What else the request asked for, as JSON: temperature, max_tokens, tools, …
        TensorSpec("parameters", "BYTES", (-1,)),
        # chat.completions | completions | responses | embeddings
        TensorSpec("operation", "BYTES", (-1,)),
    ),
    outputs=(
        TensorSpec("text", "BYTES", (-1,)),
        # Tool calls as JSON, "" if there are none.
        TensorSpec("tool_calls", "BYTES", (-1,)),
        # stop | length | tool_calls | abort (the client left) | error
        TensorSpec("finish_reason", "BYTES", (-1,)),
        TensorSpec("prompt_tokens", "INT32", (-1,)),
        TensorSpec("completion_tokens", "INT32", (-1,)),
        # Seconds; NaN if no token came, or only one.
        TensorSpec("first_token_s", "FP32", (-1,)),
        TensorSpec("token_s", "FP32", (-1,)),
    ),
)

RATING = "label"
"""How good an answer was, 0 to 1: a thumb is 0 or 1. The one that the loop judges by."""
CORRECTION = "correction"
"""The text that the answer should have been."""
PREFERRED = "preferred"
"""An answer that is better than this one: the other one's prediction id, or its text under the tag
`kind` = "text"."""
METRICS = (RATING, CORRECTION, PREFERRED)

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BASE_CONFIG = "config.json"
WEIGHTS_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")
"""Of the files that a version of a language model consists of."""


def read_json(text: str | None) -> Any:
    """A column's value that should be JSON; None if it is missing or broken."""
    try:
        return json.loads(text or "null")
    except ValueError:
        return None
