"""Metrics that are shown beside what decides, each with a 95 % confidence interval.

The values are those of `metric_values`. The intervals are those of a jackknife that leaves out one
of 20 blocks of consecutive rows at a time (Shao and Tu, "The Jackknife and Bootstrap", 1995): so
rows of one time or of one user may depend on each other. An interval of a share is at least
Wilson's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from driftloop_evaluation import metric_values as values
from driftloop_evaluation.labels import Floats
from driftloop_evaluation.wilson import wilson

BLOCKS = 20
T_QUANTILE = 2.093
"""Of Student's t with BLOCKS - 1 degrees of freedom, for 95 %."""
BINS = 10
"""Of equal size, for the calibration error."""

Ints = NDArray[np.int64]
Measure = Callable[[NDArray[np.bool_]], float]
"""Of the rows that a mask [n] keeps; NaN if it is not defined on them."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """low, high: NaN if they cannot be estimated."""

    value: float
    low: float
    high: float


def class_metrics(
    labels: Ints, answers: Ints, probabilities: Floats | None, classes: int
) -> dict[str, Estimate]:
    """Of n rows. labels, answers [n]: places of classes. probabilities [n, classes]. Of two classes
    the second is the positive one; of more, precision, recall and F1 are means over classes."""
    found: dict[str, Measure] = {"accuracy": lambda m: values.accuracy(labels[m], answers[m])}
    for place, name in enumerate(("precision", "recall", "f1")):
        found[name] = partial(_of_classes, labels, answers, classes, place)
    if probabilities is not None:
        p, places = np.clip(probabilities, 0.0, 1.0), np.arange(classes)
        right = (labels[:, None] == places).astype(np.float64)
        found["log_loss"] = lambda m: values.log_loss(labels[m], p[m])
        found["brier"] = lambda m: float(((p[m] - right[m]) ** 2).sum(axis=1).mean() / 2)
        best, named = p.max(axis=1), (p.argmax(axis=1) == labels).astype(np.float64)
        if classes == 2:
            positive, score = labels == 1, p[:, 1]
            found["roc_auc"] = lambda m: values.roc_auc(positive[m], score[m])
            found["pr_auc"] = lambda m: values.average_precision(positive[m], score[m])
            best, named = score, positive.astype(np.float64)
        found["calibration_error"] = lambda m: calibration_error(best[m], named[m])
    n = len(labels)
    shown = {name: estimate(measure, n) for name, measure in found.items()}
    shares = {"accuracy": (answers == labels, np.ones(n, bool))}
    if classes == 2:
        shares["precision"] = (labels == 1, answers == 1)
        shares["recall"] = (answers == 1, labels == 1)
    for name, (counts, among) in shares.items():
        shown[name] = _at_least(shown[name], *wilson(int(counts[among].sum()), int(among.sum())))
    return shown


def value_metrics(labels: Floats, answers: Floats) -> dict[str, Estimate]:
    """Of n rows: MAE, RMSE, R²."""
    off = answers - labels
    found: dict[str, Measure] = {
        "mae": lambda m: float(np.abs(off[m]).mean()),
        "rmse": lambda m: float(np.sqrt((off[m] ** 2).mean())),
        "r2": lambda m: values.r2(labels[m], answers[m]),
    }
    return {name: estimate(measure, len(labels)) for name, measure in found.items()}


def calibration_error(confidence: Floats, right: Floats) -> float:
    """The mean distance of stated probabilities from shares, in BINS of equal size (Naeini et al.,
    "Obtaining well calibrated probabilities", 2015)."""
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(BINS, max(len(order), 1)))
    apart = [len(b) * abs(confidence[b].mean() - right[b].mean()) for b in bins if len(b)]
    return float(sum(apart) / max(len(order), 1))


def estimate(measure: Measure, n: int) -> Estimate:
    """The value of n rows in order of time, with its interval."""
    value = measure(np.ones(n, bool)) if n else float("nan")
    if n < 2 * BLOCKS or np.isnan(value):
        return Estimate(value, float("nan"), float("nan"))
    block = np.arange(n) * BLOCKS // n
    without = np.array([measure(block != number) for number in range(BLOCKS)])
    error = np.sqrt((BLOCKS - 1) * ((without - without.mean()) ** 2).mean())
    return Estimate(value, float(value - T_QUANTILE * error), float(value + T_QUANTILE * error))


def flat(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """As numbers by name: `f1`, `f1_low` and `f1_high`; without those that are NaN."""
    parts = {
        name + end: number
        for name, e in estimates.items()
        for end, number in (("", e.value), ("_low", e.low), ("_high", e.high))
    }
    return {name: number for name, number in parts.items() if not np.isnan(number)}


def _at_least(found: Estimate, low: float, high: float) -> Estimate:
    return Estimate(
        found.value,
        max(0.0, float(np.nanmin([found.low, low]))),
        min(1.0, float(np.nanmax([found.high, high]))),
    )


def _of_classes(
    labels: Ints, answers: Ints, classes: int, place: int, m: NDArray[np.bool_]
) -> float:
    return values.precision_recall_f1(labels[m], answers[m], classes)[place]
