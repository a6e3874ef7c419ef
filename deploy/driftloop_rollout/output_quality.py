"""Measures the format of a language model's answers: whether it matches the request, and the score
of the function that the spec names."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.answer_form import well_formed
from driftloop_contracts.errors import Rejected
from driftloop_contracts.events import INPUT_PREFIX, OUTPUT_PREFIX
from driftloop_contracts.language import read_json
from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.scorer import Scorer, scorer_of

_INPUTS, _OUTPUTS = ("messages", "parameters", "operation"), ("text", "tool_calls", "finish_reason")
FORMED_BY = frozenset((*_INPUTS, *_OUTPUTS))
"""The columns that determine whether an answer is well formed."""


def form_scorer(spec: ModelSpec) -> Scorer | None:
    """The scorer, unless its scores are an objective or a guardrail of their own; if it cannot be
    imported, one that scores nothing and says why."""
    if any(said.kind.reads == "answer" for said in spec.judged_by):
        return None
    try:
        return scorer_of(spec)
    except Rejected as error:
        return Scorer(why=str(error))


def malformed(table: pa.Table, scorer: Scorer | None) -> NDArray[np.float64]:
    """Return how malformed each answer is, 0 to 1; NaN if unknown: an error, an embedding, a client
    that disconnected, a column that is not captured, or a scorer that failed."""
    names = [*(INPUT_PREFIX + n for n in _INPUTS), *(OUTPUT_PREFIX + n for n in _OUTPUTS)]
    columns = [table[name].to_pylist() for name in names]
    rows = zip(*columns, strict=True)
    return np.array([_malformed(scorer, *row) for row in rows], dtype=np.float64)


def _malformed(
    scorer: Scorer | None,
    messages: str | None,
    parameters: str | None,
    operation: str | None,
    text: str | None,
    tool_calls: str | None,
    finish_reason: str | None,
) -> float:
    if text is None or operation == "embeddings":
        return float("nan")
    asked = read_json(parameters)
    asked = asked if isinstance(asked, dict) else {}
    formed = well_formed(text, tool_calls or "", finish_reason or "", asked)
    if formed is None or not formed or scorer is None or tool_calls:
        return float("nan") if formed is None else float(not formed)
    conversation = read_json(messages)
    return 1.0 - scorer(conversation if isinstance(conversation, list) else [], text)
