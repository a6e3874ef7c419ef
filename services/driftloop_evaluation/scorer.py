"""What the function that a spec names (`options.scorer`) says of a language model's answers."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isnan, nan
from typing import Any

import numpy as np
import pyarrow as pa
import structlog

from driftloop_contracts.errors import Rejected
from driftloop_contracts.language import ANSWERED_BY, readable
from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.labels import Floats
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
            if not self.why:
                log.warning("evaluation.scorer_failed", error=repr(error))
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


def scorer_of(spec: ModelSpec) -> Scorer | None:
    """Return the function named by `options.scorer`; None if there is none. Raises Rejected if it
    cannot be imported."""
    named = spec.options.get("scorer")
    if named is None:
        return None
    return Scorer(load_plugin(str(named), "options.scorer"))


def answers_in(rows: pa.Table) -> list[dict[str, Any]]:
    """What `readable` reads of each row."""
    return rows.select([name for name in ANSWERED_BY if name in rows.column_names]).to_pylist()  # type: ignore[no-any-return]


def scorer_losses(spec: ModelSpec, rows: pa.Table) -> Floats:
    """1 - score of each of n answers, NaN for one that a scorer cannot read; labels are not asked.
    Raises Rejected if there is no scorer, or if its scores cannot be relied on."""
    scorer = scorer_of(spec)
    if scorer is None:
        raise Rejected("metric 'scorer': options.scorer names no function")
    missing = {"in_messages", "out_text"} - {*rows.column_names}
    if missing:
        raise Rejected("metric 'scorer': conversations and answers are not kept as texts")
    found = np.full(rows.num_rows, np.nan)
    for i, row in enumerate(answers_in(rows)):
        if (answer := readable(row)) is not None:
            found[i] = 1.0 - scorer(*answer)
    if scorer.problem:
        raise Rejected(f"metric 'scorer': {scorer.problem}")
    return found
