"""The policy for judging a model's rows. The labels of language models are ratings, which are fewer
and noisier."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.kind import LANGUAGE, TABULAR, ModelKind
from driftloop_contracts.model import ModelSpec
from driftloop_monitoring.state.reference import MIN_BASELINE_ROWS
from driftloop_monitoring.statistics.drift import DriftRule
from driftloop_monitoring.statistics.performance import Rule
from driftloop_settings import Settings

LIVE_REFERENCE_ROWS = 5_000
MAX_UNRATED = 20_000
"""With this many answers, they become the reference even if too few are rated for a baseline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingPolicy:
    """The thresholds for judging rows.

    performance, drift: the conditions for an alert and a warning. label_coverage, timeout_s: rows
    are judged once this share is labelled, or once they are older than this. reference_rows: the
    number of first rows used as the reference of a model deployed without one. rated_rows: how many
    of those need a label; None: all.
    """

    performance: Rule
    drift: DriftRule
    label_coverage: float
    timeout_s: float
    reference_rows: int
    rated_rows: int | None = None

    def first_rows(self, ready: int, labelled: NDArray[np.bool_]) -> int | None:
        """Return how many of the oldest rows become the reference; None: wait for more. `ready`:
        the number of rows whose labels may be judged; `labelled`: which rows have a label."""
        if ready < self.reference_rows:
            return None
        if self.rated_rows is None:
            return self.reference_rows
        rated = np.flatnonzero(labelled[:ready])
        if len(rated) >= self.rated_rows:
            return max(self.reference_rows, int(rated[self.rated_rows - 1]) + 1)
        return ready if ready >= MAX_UNRATED else None


def judging_policy(settings: Settings, spec: ModelSpec) -> JudgingPolicy:
    return _POLICIES[spec.kind](settings, spec)


def _by_labels(settings: Settings, _: ModelSpec) -> JudgingPolicy:
    m = settings.monitoring
    return JudgingPolicy(
        performance=error_rule(settings, m.performance_margin),
        drift=DriftRule(m.drift_effect, m.drift_significance),
        label_coverage=m.label_coverage,
        timeout_s=m.label_timeout_s,
        reference_rows=min(m.reference_rows, LIVE_REFERENCE_ROWS),
    )


def _by_ratings(settings: Settings, spec: ModelSpec) -> JudgingPolicy:
    m, llm = settings.monitoring, settings.llm
    return JudgingPolicy(
        performance=error_rule(settings, llm.rating_margin),
        drift=DriftRule(m.drift_effect, m.drift_significance),
        label_coverage=m.label_coverage,
        timeout_s=llm.rating_age_s,
        reference_rows=llm.reference_answers,
        rated_rows=MIN_BASELINE_ROWS if spec.task is not None else None,
    )


def error_rule(settings: Settings, margin: float, *, drawn: bool = False) -> Rule:
    """Of one model, if it were the only one: see `Rule.among`. drawn: the rows are a random sample,
    such as the answers that a judge scores."""
    return Rule(
        margin,
        settings.monitoring.average_run_length,
        settings.alerts.false_per_month,
        rhythm=settings.monitoring.rhythm == "learn" and not drawn,
        independent=drawn,
    )


_POLICIES: Mapping[ModelKind, Callable[[Settings, ModelSpec], JudgingPolicy]] = {
    TABULAR: _by_labels,
    LANGUAGE: _by_ratings,
}
