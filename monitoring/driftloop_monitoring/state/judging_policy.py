"""On what terms rows are judged: labels of a language model are ratings, which are fewer, and
noisier."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.kind import LANGUAGE, TABULAR, ModelKind
from driftloop_contracts.model import ModelSpec
from driftloop_monitoring.state.reference import MIN_BASELINE_ROWS
from driftloop_settings import Settings

LIVE_REFERENCE_ROWS = 5_000
MAX_UNRATED = 20_000
"""So many answers become the reference though too few of them were rated for a baseline."""


@dataclass(frozen=True, slots=True)
class Terms:
    """timeout_s: rows older than this are judged by the labels they have; margin: the rise of the
    mean loss that is worth an alert; reference_rows: the first rows that a bare model is compared
    with;
    rated_rows: how many of those must have a label, None: all."""

    timeout_s: float
    margin: float
    reference_rows: int
    rated_rows: int | None = None

    def first_rows(self, ready: int, labelled: NDArray[np.bool_]) -> int | None:
        """How many of the oldest rows become the reference; None: wait for more. `ready`: those
        that may be judged by their labels; `labelled`: which of the rows have one."""
        if ready < self.reference_rows:
            return None
        if self.rated_rows is None:
            return self.reference_rows
        rated = np.flatnonzero(labelled[:ready])
        if len(rated) >= self.rated_rows:
            return max(self.reference_rows, int(rated[self.rated_rows - 1]) + 1)
        return ready if ready >= MAX_UNRATED else None


def terms_of(settings: Settings, spec: ModelSpec) -> Terms:
    return _TERMS[spec.kind](settings, spec)


def _by_labels(settings: Settings, _: ModelSpec) -> Terms:
    m = settings.monitoring
    rows = min(m.reference_rows, LIVE_REFERENCE_ROWS)
    return Terms(m.label_timeout_s, m.performance_margin, rows)


def _by_ratings(settings: Settings, spec: ModelSpec) -> Terms:
    llm = settings.llm
    rated = MIN_BASELINE_ROWS if spec.task is not None else None
    return Terms(llm.rating_age_s, llm.rating_margin, llm.reference_answers, rated)


_TERMS: Mapping[ModelKind, Callable[[Settings, ModelSpec], Terms]] = {
    TABULAR: _by_labels,
    LANGUAGE: _by_ratings,
}
