"""Wilson's interval of a share ("Probable inference", 1927), which holds also if none or all rows
count."""

from math import sqrt

Z_QUANTILE = 1.96
"""Of the normal distribution, for 95 %."""


def wilson(counted: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n. counted: the rows that count, or the sum of values in
    [0, 1], for which it is wider than needed."""
    if not n:
        return 0.0, 1.0
    z2, share = Z_QUANTILE**2, counted / n
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_QUANTILE * sqrt(max(share * (1 - share), 0.0) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)
