"""Where the mean of losses lies, at all times at once. Pure.

An asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform
central limit theory", 2021): in 95 % of all histories the true mean lies within it at every row, so
that it may be looked at as often as one likes. An interval of one time holds at that time only.
"""

from math import log, sqrt

ALPHA = 0.05
NARROWEST_ROWS = 10_000
"""It is about as narrow as possible after this many rows."""


def confidence_sequence(mean: float, rows: float, dispersion: float = 1.0) -> tuple[float, float]:
    """Of losses in [0, 1] after `rows` rows, from a hundred on. dispersion: how many rows are worth
    as much as one independent row."""
    level = -2.0 * log(ALPHA)
    rho = (level + log(level) + 1.0) / NARROWEST_ROWS
    seen = rows * rho + 1.0
    near = (mean * rows + 1.0) / (rows + 2.0)  # where no loss was seen, there is some
    variance = near * (1.0 - near) * dispersion  # at most, of losses in [0, 1] with this mean
    radius = sqrt(variance * 2.0 * seen / (rows * rows * rho) * log(sqrt(seen) / ALPHA))
    return max(0.0, mean - radius), min(1.0, mean + radius)
