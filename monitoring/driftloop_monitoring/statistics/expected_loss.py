"""The mean loss that rows without labels will have, expected from the model's own confidence. Pure.

Confidence based performance estimation, with the calibration of Zadrozny and Elkan ("Obtaining
calibrated probability estimates", 2001): the labelled rows of the reference are put into bins of
equally many rows by the confidence of the answer, and each bin has a mean loss. A window's expected
loss is the mean over its rows of the mean loss of their bins. It is calibrated whatever the
model's probabilities are worth, and serves each loss that all labelled rows have.

Assumption: rows of equal confidence are wrong as often as in the reference. So it shows harm from
inputs that the model knows to be hard, and none from a change of what is true (concept drift) or
from inputs about which the model errs with confidence.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 20
LEAST_IN_BIN = 50
"""Labelled rows of the reference."""
Z95 = 1.96
SURE_Z = 5.0
"""A rise that is shown by this many standard errors: by chance once in three million windows."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Of `rows` rows. low, high: the interval of 95 % for the mean loss that their labels will
    show. rise: over the reference by the same bins, with its standard error."""

    mean: float
    low: float
    high: float
    rows: int
    rise: float
    rise_error: float

    def clearly_above(self, margin: float) -> bool:
        """Whether the expected loss rose by this much, and for sure."""
        return self.rise >= margin and self.rise > SURE_Z * self.rise_error


@dataclass(frozen=True, slots=True)
class LossByConfidence:
    """edges [k - 1]: between k bins of the confidence. mean, variance: of the losses in each bin of
    the reference; rows: how many they are."""

    edges: Floats
    mean: Floats
    variance: Floats
    rows: Floats

    @classmethod
    def learn(cls, confidence: Floats, losses: Floats) -> "LossByConfidence | None":
        """From the labelled rows of a reference; None if they are too few for two bins."""
        known = np.isfinite(confidence) & np.isfinite(losses)
        confidence, losses = confidence[known], losses[known]
        bins = min(BINS, len(losses) // LEAST_IN_BIN)
        if bins < 2:
            return None
        edges = np.unique(np.quantile(confidence, np.arange(1, bins) / bins))
        place = np.searchsorted(edges, confidence, side="right")
        k = len(edges) + 1
        rows, total, squares = (
            np.bincount(place, weight, k).astype(np.float64) for weight in (None, losses, losses**2)
        )
        filled = np.maximum(rows, 1.0)
        mean = total / filled
        # A bin without an error has some: about half of one more row.
        least = 0.5 / (rows + 1.0)
        variance = np.maximum(squares / filled - mean**2, least * (1.0 - least))
        return cls(edges, mean, variance, rows)

    def expected(self, confidence: Floats, dispersion: float = 1.0) -> Expected | None:
        """Of a window's rows; None if none has a confidence. dispersion: how many rows are worth as
        much as one independent row."""
        confidence = confidence[np.isfinite(confidence)]
        n = len(confidence)
        if not n:
            return None
        place = np.searchsorted(self.edges, confidence, side="right")
        share = np.bincount(place, minlength=len(self.mean)) / n
        before = self.rows / self.rows.sum()
        filled = np.maximum(self.rows, 1.0)
        mean = float(share @ self.mean)
        labels = float(share @ self.variance) / n
        learnt = float(share**2 @ (self.variance / filled))
        error = Z95 * math.sqrt(labels * dispersion + learnt)
        mixture = float(share @ (self.mean - mean) ** 2) * dispersion / n
        usual = float(before @ self.mean)
        mixture += float(before @ (self.mean - usual) ** 2) / self.rows.sum()
        moved = float((share - before) ** 2 @ (self.variance / filled))
        return Expected(
            mean,
            max(0.0, mean - error),
            min(1.0, mean + error),
            n,
            mean - usual,
            math.sqrt(mixture + moved),
        )
