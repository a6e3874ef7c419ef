"""Units of a verdict: the draws of an arm, each with all its losses. Pure.

A unit is a routing key in one epoch of the split, or a request without a routing key. Its rows may
depend on each other in any way; the draw is random, and independent of everything before it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NO_KEY = -1
"""Used in place of a routing key's hash."""
FEW_KEYS = 30
"""With fewer keys that have two rows, the variance between keys is unknown."""
ASSUMED_CORRELATION = 0.1
"""The correlation of the losses of a key's rows, assumed while too few keys were seen."""


@dataclass(frozen=True, slots=True)
class Units:
    """n units as arrays [n].

    canary: whether the draw was for the canary, which had the probability `share`. rows: the number
    of judged rows. loss: their sum. expected: the expected loss of one row before the draw. spread:
    the variance between units that `expected` does not explain.
    """

    canary: NDArray[np.bool_]
    share: Floats
    rows: Floats
    loss: Floats
    expected: Floats
    spread: Floats

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of_rows(cls, canary: Floats, stable: Floats, share: float, expected: float) -> "Units":
        """Return units of one row each. canary, stable: the losses of those drawn for either
        arm."""
        loss = np.concatenate([canary, stable])
        n = len(loss)
        return cls(
            np.arange(n) < len(canary),
            np.full(n, share),
            np.ones(n),
            loss,
            np.full(n, expected),
            np.zeros(n),
        )


@dataclass(frozen=True, slots=True)
class KeyHistory:
    """The champion's losses by routing key: hashes in ascending order [k], number of rows and
    summed losses [k]. spread: the variance of the keys' true means; None if too few were seen."""

    keys: Ints
    rows: Floats
    losses: Floats
    spread: float | None

    @classmethod
    def of(cls, keys: Ints, losses: Floats) -> "KeyHistory":
        """Build the history from rows [n] that the champion answered, ignoring NO_KEY and NaN."""
        known = (keys != NO_KEY) & ~np.isnan(losses)
        found, place = np.unique(keys[known], return_inverse=True)
        rows = np.bincount(place, minlength=len(found)).astype(np.float64)
        sums = np.bincount(place, losses[known], minlength=len(found)).astype(np.float64)
        return cls(found, rows, sums, spread_of(place, losses[known]))

    def expect(self, keys: Ints, q: float) -> tuple[Floats, Floats]:
        """Return `expected` and `spread` of units with these keys: the key's mean, shrunk towards
        the overall mean loss q, more strongly for few rows. Best linear prediction; see Bühlmann
        and Gisler, "A Course in Credibility Theory" (2005), chapter 3."""
        v = max(q * (1 - q), 1e-4)
        spread = ASSUMED_CORRELATION * v if self.spread is None else self.spread
        rows, losses = np.zeros(len(keys)), np.zeros(len(keys))
        if len(self.keys):
            place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
            known = self.keys[place] == keys
            rows[known], losses[known] = self.rows[place[known]], self.losses[place[known]]
        if spread <= 0.0:
            return np.full(len(keys), q), np.zeros(len(keys))
        k = v / spread
        return (losses + k * q) / (rows + k), spread * k / (rows + k)


def spread_of(groups: Ints, losses: Floats) -> float | None:
    """Return the variance between the means of groups, beyond what the variance within groups
    explains (one-way analysis of variance); None if fewer than FEW_KEYS groups have two rows.
    groups: a number from 0 for each row."""
    n = np.bincount(groups).astype(np.float64)
    if (n >= 2).sum() < FEW_KEYS:
        return None
    sums, total = np.bincount(groups, losses), len(losses)
    mean, means = losses.mean(), sums / np.maximum(n, 1)
    between = (n * (means - mean) ** 2).sum()
    within = ((losses - means[groups]) ** 2).sum() / max(total - len(n), 1)
    return max(0.0, float((between - (len(n) - 1) * within) / (total - (n**2).sum() / total)))
