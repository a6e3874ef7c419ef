"""Measures the format of a language model's answers: whether it matches the request, and the score
of the function that the spec names."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isnan, nan
from typing import Any

import numpy as np
import pyarrow as pa
import structlog
from numpy.typing import NDArray

from driftloop_contracts.answer_form import well_formed
from driftloop_contracts.errors import Rejected
from driftloop_contracts.events import INPUT_PREFIX, OUTPUT_PREFIX
from driftloop_contracts.language import read_json
from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.plugins import load_plugin

log = structlog.get_logger()

Score = Callable[[list[dict[str, Any]], str], float]
"""(messages, answer) → a score from 0 (worst) to 1."""


@dataclass(slots=True)
class Scorer:
    """The function that a spec names, or why there is none. An answer that it gives no score from 0
    to 1 is not judged. problem: why its scores cannot be relied on: it gave none at all, or one
    that is none."""

    function: Score | None = None
    scored: int = 0
    why: str = ""
    outside: str = ""

    @property
    def problem(self) -> str:
        return self.outside or ("" if self.scored else self.why)

    def __call__(self, messages: list[dict[str, Any]], text: str) -> float:
        if self.function is None:
            return nan
        try:
            score = float(self.function(messages, text))
        except Exception as error:  # code of the user
            log.warning("rollout.scorer_failed", error=repr(error))
            self.why = f"options.scorer raised {type(error).__name__}: {error}"
            return nan
        if isnan(score):
            self.why = "options.scorer gave NaN"
            return nan
        if not 0.0 <= score <= 1.0:
            self.outside = f"options.scorer gave {score:g}: it must give 0 to 1"
            return nan
        self.scored += 1
        return score


_INPUTS, _OUTPUTS = ("messages", "parameters", "operation"), ("text", "tool_calls", "finish_reason")
FORMED_BY = frozenset((*_INPUTS, *_OUTPUTS))
"""The columns that determine whether an answer is well formed."""


def scorer_of(spec: ModelSpec) -> Scorer | None:
    """Return the function named by `options.scorer`; None if there is none. Raises Rejected if it
    cannot be imported."""
    named = spec.options.get("scorer")
    if named is None:
        return None
    return Scorer(load_plugin(str(named), "options.scorer"))


def usable_scorer(spec: ModelSpec) -> Scorer | None:
    """The same; if it cannot be imported, one that scores nothing and says why."""
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
