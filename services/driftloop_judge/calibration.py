"""Measures whether a judge ranks well-rated answers above badly rated ones. Pure.

The probability that it does (AUC; ties count half) gets a one-sided 95 % lower bound, the smaller
of two: Newcombe's (Wilson's with Hanley and McNeil's variance, "Confidence intervals for an effect
size measure based on the Mann-Whitney statistic, part 2", method 5, 2006), which is accurate for
few answers and for an AUC near 1; and DeLong's (DeLong, DeLong, Clarke-Pearson, 1988), which
accounts for different variances of the scores in both classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z = 1.6449
"""The quantile of the normal distribution, one-sided 95 %."""
MIN_OF_EACH = 20
"""The least number of well and of badly rated answers for which a bound is computed."""

Rated = tuple[bool, float]
"""(whether people rated it well, the judge's score)."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """area: the AUC. lower: its bound. well, badly: the numbers of rated answers."""

    area: float
    lower: float
    well: int
    badly: int


def rated_well(rating: float) -> bool | None:
    """Classify a rating from 0 to 1; None if it is 0.5 or NaN."""
    return bool(rating > 0.5) if rating > 0.5 or rating < 0.5 else None


def agreement(rated: Sequence[Rated]) -> Agreement | None:
    """Compute the agreement; None with fewer than MIN_OF_EACH in a class."""
    well = np.sort([score for good, score in rated if good])
    badly = np.sort([score for good, score in rated if not good])
    if min(len(well), len(badly)) < MIN_OF_EACH:
        return None
    above = _below(badly, well)  # the share of badly rated scores below each well-rated score
    area = float(above.mean())
    spread = above.var(ddof=1) / len(well) + _below(well, badly).var(ddof=1) / len(badly)
    lower = min(area - Z * math.sqrt(spread), _newcombe(area, len(well), len(badly)))
    return Agreement(area, max(0.0, lower), len(well), len(badly))


def doubt(rated: Sequence[Rated], least_rated: int, least_area: float) -> str:
    """Return why the judge's scores must not be used yet, or ""."""
    if len(rated) < least_rated:
        return f"{len(rated)} of at least {least_rated} answers have a score and a person's rating"
    found = agreement(rated)
    if found is None:
        few = min((good := sum(g for g, _ in rated)), len(rated) - good)
        which = "well" if few == good else "badly"
        return f"{few} of at least {MIN_OF_EACH} answers are {which} rated by people"
    if found.lower < least_area:
        return (
            f"it ranks well above badly rated answers with a probability of {found.area:.2f}, "
            f"{found.lower:.2f} or more (95 %), of at least {least_area:.2f}"
        )
    return ""


def _below(values: NDArray[np.float64], each: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the sorted `values` below each item; ties count half."""
    under, up_to = (np.searchsorted(values, each, side) for side in ("left", "right"))
    return (under + up_to) / (2.0 * len(values))


def _newcombe(area: float, well: int, badly: int) -> float:
    """Return the smallest area that the observed one does not refute."""
    rest = (well + badly) / 2 - 1
    low, high = 0.0, area
    for _ in range(40):
        a = (low + high) / 2
        spread = a * (1 - a) * (1 + rest * ((1 - a) / (2 - a) + a / (1 + a))) / (well * badly)
        low, high = (low, a) if area - a <= Z * math.sqrt(spread) else (a, high)
    return high
