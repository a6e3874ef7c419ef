"""ROC and precision-recall of a class, and the distribution of residuals."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

POINTS = 41
BARS = 31


def class_curve(p: NDArray[np.float64], positive: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Of the probability [n] of a class, and which rows are of it: at thresholds from high to low,
    the share of the positives found, of the negatives called positive, and the precision. [] if all
    rows are of one kind."""
    if positive.all() or not positive.any():
        return []
    order = np.argsort(-p, kind="stable")
    found, called = np.cumsum(positive[order]), np.arange(1, len(p) + 1)
    # Of rows with the same probability all are called, or none.
    ends = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)
    ends = ends[np.unique(np.linspace(0, len(ends) - 1, POINTS).astype(int))]
    positives, negatives = int(positive.sum()), int((~positive).sum())
    return [
        {
            "threshold": float(p[order][end]),
            "recall": float(found[end] / positives),
            "false_positive_rate": float((called[end] - found[end]) / negatives),
            "precision": float(found[end] / called[end]),
        }
        for end in ends.tolist()
    ]


def histogram(values: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Of residuals, without the hundredth at each end."""
    low, high = np.quantile(values, [0.01, 0.99])
    if not high > low:
        return []
    counts, edges = np.histogram(values, BARS, (low, high))
    return [
        {"low": float(a), "high": float(b), "rows": int(n)}
        for a, b, n in zip(edges, edges[1:], counts, strict=False)
    ]
