"""Chooses the steps behind a model's answers, on validation rows.

Each half of the rows is judged by what was fitted on the other half. A calibration is taken if it
lowers the log loss by more than noise, and the costs that the objective declares decide the label.
Both go again if the objective's own loss becomes higher by them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.model import ModelSpec
from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.postprocessing.calibration import (
    Calibration,
    Fit,
    fit_isotonic,
    fit_scaled,
)
from driftloop_retrain.tabular.postprocessing.decision_costs import costs_of
from driftloop_retrain.tabular.postprocessing.interval import Interval
from driftloop_retrain.tabular.postprocessing.prediction_set import PredictionSet
from driftloop_retrain.tabular.postprocessing.steps import Steps, names_in

NOISE = 2.0
"""In standard errors of the paired difference, as in the search."""
MIN_ROWS, ISOTONIC_ROWS = 400, 2_000
MIN_CLASS_ROWS = 10
"""Of each class in each half, to calibrate."""
MAX_CLASSES = 50
TINY = 1e-7

Losses = NDArray[np.float64]
Lost = Callable[[Outputs], Losses]
"""The losses [n] of outputs for the validation rows, NaN for rows that do not count."""


@dataclass(frozen=True)
class Wanted:
    """See RetrainSettings.calibrate, decide, interval and prediction_set."""

    calibrate: bool = True
    by_costs: bool = True
    interval: float | None = None
    prediction_set: float | None = None


@dataclass(frozen=True)
class Choice:
    """steps: fitted on all validation rows; None: there are none for this model. losses [n]: of
    each row by steps that it was not fitted with, as answers. further: behind the steps. measured:
    for the record."""

    steps: Steps | Interval | None
    losses: Losses
    measured: dict[str, Any] = field(default_factory=dict)
    answers: Outputs = field(default_factory=dict)
    further: PredictionSet | None = None


def choose_steps(
    spec: ModelSpec,
    classes: NDArray[np.generic] | None,
    labels: NDArray[np.generic],
    outputs: Outputs,
    lost: Lost,
    wanted: Wanted,
) -> Choice:
    """labels [n], and a model's outputs for them, oldest first."""
    before = lost(outputs)
    if classes is None or not _fits(spec, classes, labels, outputs):
        return Choice(None, before, answers=outputs)
    rows = _Rows(classes, labels, outputs)
    fit, log_losses = _calibration(rows) if wanted.calibrate else (None, {})
    by_costs = wanted.by_costs and costs_of(spec, classes, rows.place) is not None
    for fitted, decided in ((fit, by_costs), (None, by_costs), (fit, False)):
        if fitted is None and not decided:
            continue
        answers = rows.crossed(lambda r, f=fitted, d=decided: _steps(spec, r, f, d))  # type: ignore[misc]
        after = lost(answers)
        gain, _ = _gain(before, after)
        if gain >= 0:
            steps = _steps(spec, rows, fitted, decided)
            means = {"before": float(np.nanmean(before)), "after": float(np.nanmean(after))}
            return Choice(
                steps,
                after,
                {
                    **steps.to_dict(),
                    "rows": len(labels),
                    "loss": means,
                    "log_loss": log_losses if fitted is not None else {},
                },
                answers,
            )
    return Choice(None, before, answers=outputs)


@dataclass(frozen=True)
class _Rows:
    classes: NDArray[np.generic]
    labels: NDArray[np.generic]
    outputs: Outputs

    @property
    def p(self) -> NDArray[np.float32]:
        return np.asarray(self.outputs[names_in(self.outputs)[1]], np.float32)

    @property
    def place(self) -> NDArray[np.int64]:
        return np.searchsorted(self.classes, self.labels)

    def part(self, kept: slice) -> "_Rows":
        return _Rows(self.classes, self.labels[kept], {k: v[kept] for k, v in self.outputs.items()})

    @property
    def halves(self) -> tuple["_Rows", "_Rows"]:
        """The older and the newer, so that each is judged as a later time would be."""
        middle = len(self.labels) // 2
        return self.part(slice(None, middle)), self.part(slice(middle, None))

    def crossed(self, fitted: Callable[["_Rows"], Steps]) -> dict[str, NDArray[np.generic]]:
        older, newer = self.halves
        first, second = fitted(newer).apply(older.outputs), fitted(older).apply(newer.outputs)
        return {name: np.concatenate([first[name], second[name]]) for name in first}

    def log_losses(self, outputs: Outputs) -> Losses:
        chosen = outputs[names_in(outputs)[1]][np.arange(len(self.labels)), self.place]
        return np.asarray(-np.log(np.maximum(chosen.astype(np.float64), TINY)))


def _fits(
    spec: ModelSpec, classes: NDArray[np.generic], labels: NDArray[np.generic], outputs: Outputs
) -> bool:
    """Whether the model's label follows from probabilities of the classes."""
    try:
        label, p = names_in(outputs)
    except StopIteration:
        return False
    return (
        spec.output == label
        and len(labels) >= MIN_ROWS
        and 2 <= len(classes) <= MAX_CLASSES
        and outputs[p].shape == (len(labels), len(classes))
        and bool(np.isin(labels, classes).all())
    )


def _steps(spec: ModelSpec, rows: _Rows, fit: Fit | None, by_costs: bool) -> Steps:
    found: Calibration | None = None if fit is None else fit(rows.p, rows.place)
    costs = costs_of(spec, rows.classes, rows.place) if by_costs else None
    return Steps(rows.classes, found, costs)


def _calibration(rows: _Rows) -> tuple[Fit | None, dict[str, float]]:
    """The form that lowers the log loss by more than noise, and the mean before and after."""
    for half in rows.halves:
        if np.bincount(half.place, minlength=len(rows.classes)).min() < MIN_CLASS_ROWS:
            return None, {}
    forms: list[Fit] = [fit_scaled]
    if len(rows.classes) == 2 and len(rows.labels) >= ISOTONIC_ROWS:
        forms.append(fit_isotonic)
    plain = best = rows.log_losses(rows.outputs)
    chosen: Fit | None = None
    for form in forms:
        tried = rows.log_losses(
            rows.crossed(lambda r, f=form: Steps(r.classes, f(r.p, r.place)))  # type: ignore[misc]
        )
        gain, error = _gain(best, tried)
        if gain > NOISE * error:
            chosen, best = form, tried
    return chosen, {"before": float(plain.mean()), "after": float(best.mean())}


def _gain(before: Losses, after: Losses) -> tuple[float, float]:
    """The mean improvement, and its standard error."""
    gain = before - after
    gain = gain[~np.isnan(gain)]
    if not len(gain):
        return 0.0, 0.0
    return float(gain.mean()), float(gain.std()) / sqrt(len(gain))
