"""A trial that is done, and which of several is the best. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from driftloop_evaluation.loss_rule import LossRule
from driftloop_retrain.tabular.dataset import Span
from driftloop_retrain.tabular.tuning.space import Parameters

NOISE = 2.0
"""In standard errors of the paired difference."""
TUNED_NOISE = 1.0
"""The same for the best of those with searched parameters: it costs nothing in serving."""
OWN = "the recipe's own"


@dataclass(frozen=True)
class Trial:
    """One family with its parameters on one span. losses [n]: on the validation rows, as in the
    gate. scale: of a regression's losses; see `loss_scale`. number: in the journal."""

    family: str
    span: Span
    rounds: int
    losses: NDArray[np.float64]
    metrics: Mapping[str, float]
    scale: float | None = None
    rule: LossRule | None = None
    """Of a model with an objective; the losses of rows that do not count are NaN."""
    parameters: Parameters = field(default_factory=dict)
    seconds: float = 0.0
    number: int = 0

    @property
    def mean_loss(self) -> float:
        return float(np.nanmean(self.losses))

    def to_dict(self) -> dict[str, object]:
        given = ", ".join(f"{name}={_shown(value)}" for name, value in self.parameters.items())
        return {
            "family": self.family,
            "span": self.span.name,
            "parameters": given or OWN,
            "rounds": self.rounds,
            "seconds": round(self.seconds, 2),
            "mean_loss": self.mean_loss,
            **self.metrics,
        }


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def best_of(trials: Sequence[Trial], noise: float = NOISE) -> Trial:
    """Return the first trial, unless a later one is better by more than noise; then that one, and
    so on."""
    best = trials[0]
    for trial in trials[1:]:
        gain = best.losses - trial.losses
        gain = gain[~np.isnan(gain)]
        error = float(gain.std()) / sqrt(len(gain))
        if float(gain.mean()) > noise * error:
            best = trial
    return best
