"""Texts to tokens before a graph: a step that the model file declares (ADR 46).

No operator of ONNX splits texts as tokenizers do. So a graph that takes tokens may carry its
tokenizer in its own metadata, and is then asked with texts.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from driftloop_contracts.errors import Rejected
from driftloop_contracts.signature import TensorSpec

KEY = "driftloop.tokenizer"
"""The entry of the file's metadata. JSON: `columns`: one or two columns of texts (two: a pair);
`inputs`: for each input of the graph, the attribute of an encoding that it takes; `tokenizer`: as
`tokenizers` writes it, with its padding and truncation."""
ATTRIBUTES = ("ids", "attention_mask", "type_ids")
RUN_ROWS = 32
"""More rows are several runs: the memory of attention grows with rows × tokens²."""

Arrays = Mapping[str, np.ndarray]
Run = Callable[[list[str], Arrays, Any], list[np.ndarray]]


@dataclass(frozen=True)
class TokenizerStep:
    columns: tuple[str, ...]
    inputs: Mapping[str, str]
    tokenizer: Any

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """What is asked for in place of tokens: texts [n, 1]."""
        return tuple(TensorSpec(name, "BYTES", (-1, 1)) for name in self.columns)

    def before(self, run: Run) -> Run:
        """The run of a session, with texts in place of tokens."""

        def with_tokens(outputs: list[str], inputs: Arrays, options: Any) -> list[np.ndarray]:
            texts = [inputs[name].reshape(-1) for name in self.columns]
            rows = list(texts[0] if len(texts) == 1 else zip(*texts, strict=True))
            starts = range(0, len(rows), RUN_ROWS) or (0,)
            parts = [run(outputs, self._tokens(rows[i : i + RUN_ROWS]), options) for i in starts]
            return [np.concatenate(part) for part in zip(*parts, strict=True)]

        return with_tokens

    def _tokens(self, rows: Sequence[Any]) -> Arrays:
        found = self.tokenizer.encode_batch(rows)
        shape = (len(rows), len(found[0].ids) if found else 1)  # padding makes them equally long
        return {
            name: np.array([getattr(one, attribute) for one in found], np.int64).reshape(shape)
            for name, attribute in self.inputs.items()
        }


def declaration(columns: Sequence[str], inputs: Mapping[str, str], tokenizer: Any) -> str:
    """The entry under KEY. tokenizer: a `tokenizers.Tokenizer` with padding."""
    document = {"columns": list(columns), "inputs": dict(inputs)}
    return json.dumps(document | {"tokenizer": json.loads(tokenizer.to_str())})


def tokenizer_step(
    metadata: Mapping[str, str], graph_inputs: Sequence[str]
) -> TokenizerStep | None:
    """The step that a file's metadata declares. Raises Rejected if it does not fit the graph."""
    if KEY not in metadata:
        return None
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads are not those we count
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise Rejected("the model has a tokenizer: pip install tokenizers") from None
    try:
        document = json.loads(metadata[KEY])
        columns, inputs = tuple(map(str, document["columns"])), dict(document["inputs"])
        tokenizer = Tokenizer.from_str(json.dumps(document["tokenizer"]))
    except Exception as error:  # `tokenizers` raises Exception itself
        raise Rejected(f"the model's tokenizer cannot be read: {error}") from None
    if len(columns) not in (1, 2) or not set(inputs.values()) <= set(ATTRIBUTES):
        raise Rejected(f"the model's tokenizer takes {columns} and gives {sorted(inputs.values())}")
    if set(inputs) != set(graph_inputs):
        raise Rejected(
            f"the model's tokenizer gives {sorted(inputs)}, and its graph takes "
            f"{sorted(graph_inputs)}"
        )
    if tokenizer.padding is None:
        raise Rejected("the model's tokenizer has no padding, so that rows differ in length")
    return TokenizerStep(columns, inputs, tokenizer)
