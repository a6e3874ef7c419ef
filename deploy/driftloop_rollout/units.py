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
FEW_UNITS = 50
"""With fewer units it costs more than it saves to count equal ones."""
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

    def counted(self) -> tuple["Units", Floats]:
        """Return the units that differ, and how many there are of each. Only units with the same
        draw, rows and loss are put together, if nothing else differs: those of rare errors."""
        alike = self.share, self.expected, self.spread
        if len(self) < FEW_UNITS or any((each != each[0]).any() for each in alike):
            return self, np.ones(len(self))
        values, which = _coded(self.loss)
        if len(values) > len(self) // 8:
            return self, np.ones(len(self))
        (sizes, code), kinds = _coded(self.rows), len(values)
        code = code * kinds + which
        counts = np.bincount(2 * code + self.canary)
        code = np.flatnonzero(counts)
        n, (size, value) = len(code), np.divmod(code // 2, kinds)
        share, expected, spread = (np.full(n, each[0]) for each in alike)
        units = Units(code % 2 == 1, share, sizes[size], values[value], expected, spread)
        return units, counts[code].astype(np.float64)

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


def _coded(each: Floats) -> tuple[Floats, Ints]:
    """The values that there are, and which of them each is."""
    if (each == each[0]).all():
        return each[:1], np.zeros(len(each), np.int64)
    values = np.unique(each)
    return values, np.searchsorted(values, each)


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
        losses = losses[known]
        found, place = np.unique(keys[known], return_inverse=True)
        rows = np.bincount(place, minlength=len(found)).astype(np.float64)
        sums = np.bincount(place, losses, minlength=len(found)).astype(np.float64)
        return cls.of_sums(found, rows, sums, float(losses @ losses))

    @classmethod
    def of_sums(cls, keys: Ints, rows: Floats, losses: Floats, squares: float) -> "KeyHistory":
        """Build the history from the sums of its keys [k]. squares: of all losses."""
        return cls(keys, rows, losses, spread_of_sums(rows, losses, squares))

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
    rows, sums = (np.bincount(groups, each).astype(np.float64) for each in (None, losses))
    return spread_of_sums(rows, sums, float(losses @ losses))


def spread_of_sums(n: Floats, sums: Floats, squares: float) -> float | None:
    """As `spread_of`. n, sums: the rows and summed losses of each group; squares: of all losses."""
    if (n >= 2).sum() < FEW_KEYS:
        return None
    n, sums = n[n > 0], sums[n > 0]
    total, means = n.sum(), sums / n
    between = (n * (means - sums.sum() / total) ** 2).sum()
    within = max(0.0, squares - (n * means**2).sum()) / max(total - len(n), 1)
    return max(0.0, float((between - (len(n) - 1) * within) / (total - (n**2).sum() / total)))
