"""95 % intervals of means."""

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_evaluation.wilson import Z_QUANTILE, wilson


def gain(before: NDArray[np.float64], after: NDArray[np.float64]) -> dict[str, Any]:
    """How much lower the mean loss is after than before, of rows [n] that count for both."""
    return mean(before - after)


def mean(values: NDArray[np.float64]) -> dict[str, Any]:
    """{"mean", "low", "high", "rows"} of values that are not NaN; {} without any."""
    known = values[~np.isnan(values)]
    if not len(known):
        return {}
    half = Z_QUANTILE * float(known.std()) / sqrt(len(known))
    middle = float(known.mean())
    return {"mean": middle, "low": middle - half, "high": middle + half, "rows": len(known)}


def share(hits: int, rows: int) -> dict[str, Any]:
    """Of a share, after Wilson."""
    if not rows:
        return {}
    low, high = wilson(hits, rows)
    return {"mean": hits / rows, "low": low, "high": high, "rows": rows}
