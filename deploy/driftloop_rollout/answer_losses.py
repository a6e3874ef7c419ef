"""Losses of a language model's answers that need no label: what the spec's scorer and a judge say
of either version's answer to the same conversation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.scorer import Scorer, answers_in
from driftloop_judge.calibration import doubt
from driftloop_judge.judge import Judge, JudgedAnswer, judged_answer
from driftloop_judge.lookup import judge_of
from driftloop_rollout.output_quality import form_scorer, malformed
from driftloop_rollout.units import Floats
from driftloop_settings import Settings

FORMAT, JUDGE = "format", "judge"
Pairs = dict[str, tuple[Floats, Floats]]
"""The candidate's and the champion's losses [n], by the metric."""


@dataclass(frozen=True, slots=True)
class AnswerLosses:
    """judge_s: the most seconds for one call of `of`. notes: what people should know of the
    judge."""

    scorer: Scorer | None = None
    judge: Judge | None = None
    judge_s: float = 10.0
    notes: tuple[str, ...] = ()

    @property
    def compares(self) -> bool:
        """Whether it says more of answers than their form."""
        return self.scorer is not None or self.judge is not None

    def of(self, champion: pa.Table, candidate: pa.Table) -> tuple[Pairs, str]:
        """Return the losses of n rows that both answered, NaN without an answer; and why a scorer
        or judge gave none, or ""."""
        found: Pairs = {
            FORMAT: (malformed(candidate, self.scorer), malformed(champion, self.scorer))
        }
        why = [self.scorer.problem] if self.scorer and self.scorer.problem else []
        if self.judge is not None:
            asked = [
                judged_answer(row) for rows in (candidate, champion) for row in answers_in(rows)
            ]
            losses, missing = _losses(self.judge, asked, self.judge_s)
            why += [f"the judge {self.judge.name}: {missing}"] if missing else []
            found[JUDGE] = losses[: candidate.num_rows], losses[candidate.num_rows :]
        return found, why[-1] if why else ""


def answer_losses(
    spec: ModelSpec, settings: Settings, monitored: Mapping[str, Any] | None
) -> AnswerLosses:
    """monitored: what the monitor keeps of the model, which knows whether people's ratings bear the
    judge out. Without that, the judge does not count. Raises Rejected if the scorer cannot be
    imported."""
    found = AnswerLosses(form_scorer(spec), judge_s=settings.judge.timeout_s)
    try:
        judge = judge_of(settings.judge, spec)
    except Rejected as error:
        return replace(found, notes=(f"the judge does not compare: {error}",))
    if judge is None:
        return found
    known = (monitored or {}).get("judge") or {}
    rated = [(bool(g), float(s)) for g, s in known.get("rated", ())]
    rated = rated if known.get("judge") == judge.name else []
    if why := doubt(rated, settings.judge.min_rated, settings.judge.min_auc):
        return replace(found, notes=(f"the judge does not compare: {why}",))
    return replace(found, judge=judge)


def _losses(
    judge: Judge, asked: Sequence[JudgedAnswer | None], limit_s: float
) -> tuple[NDArray[np.float64], str]:
    found = np.full(len(asked), np.nan)
    known = [i for i, answer in enumerate(asked) if answer is not None]
    scores, why = judge.scores([a for a in asked if a is not None], limit_s)
    for i, score in zip(known, scores, strict=True):
        found[i] = np.nan if score is None else 1.0 - score
    return found, why
