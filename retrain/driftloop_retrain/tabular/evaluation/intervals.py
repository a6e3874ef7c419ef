"""95 % intervals of means."""

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z = 1.96


def gain(before: NDArray[np.float64], after: NDArray[np.float64]) -> dict[str, Any]:
    """How much lower the mean loss is after than before, of rows [n] that count for both."""
    return mean(before - after)


def mean(values: NDArray[np.float64]) -> dict[str, Any]:
    """{"mean", "low", "high", "rows"} of values that are not NaN; {} without any."""
    known = values[~np.isnan(values)]
    if not len(known):
        return {}
    half = Z * float(known.std()) / sqrt(len(known))
    middle = float(known.mean())
    return {"mean": middle, "low": middle - half, "high": middle + half, "rows": len(known)}


def share(hits: int, rows: int) -> dict[str, Any]:
    """Of a share, after Wilson."""
    if not rows:
        return {}
    p, z2 = hits / rows, Z * Z
    middle = (p + z2 / (2 * rows)) / (1 + z2 / rows)
    half = Z * sqrt(p * (1 - p) / rows + z2 / (4 * rows * rows)) / (1 + z2 / rows)
    return {
        "mean": p,
        "low": max(0.0, middle - half),
        "high": min(1.0, middle + half),
        "rows": rows,
    }
