"""Measures how well both arms are labelled, and up to which time their quality may be compared."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from driftloop_evaluation.settling import INSTANT
from driftloop_rollout.arm_rows import ArmRows, time_of, us_of

EQUAL_COVERAGE = 0.02
MIN_AGED_ROWS = 20
MIN_COVERED_ROWS = 50
"""With fewer rows the share of labels is unreliable: the first rows may be those labelled
fastest."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """The number of rows of both arms used for quality, and how many of them had a label."""

    canary: int = 0
    stable: int = 0
    canary_labelled: int = 0
    stable_labelled: int = 0

    def with_rows(self, rows: ArmRows) -> "Coverage":
        labelled = rows.canary & rows.labelled
        return Coverage(
            self.canary + int(rows.canary.sum()),
            self.stable + int((~rows.canary).sum()),
            self.canary_labelled + int(labelled.sum()),
            self.stable_labelled + int(rows.labelled.sum() - labelled.sum()),
        )

    @property
    def is_equal(self) -> bool:
        """Whether the shares differ by no more than EQUAL_COVERAGE plus chance."""
        both = self.canary + self.stable
        canary, stable = max(self.canary, 1), max(self.stable, 1)
        mean = (self.canary_labelled + self.stable_labelled) / max(both, 1)
        noise = 3.0 * (mean * (1 - mean) * (1 / canary + 1 / stable)) ** 0.5
        apart = abs(self.canary_labelled / canary - self.stable_labelled / stable)
        return bool(apart <= EQUAL_COVERAGE + noise)


def labelled_until(
    rows: ArmRows,
    usable: NDArray[np.bool_],
    label_coverage: float,
    mature: datetime | None,
    before: Coverage,
) -> tuple[datetime | None, str]:
    """Return the latest time up to which both arms are sufficiently labelled, or None; and the
    reason if later rows must wait.

    usable: after which rows [n] a used part may end. label_coverage: the share of rows that need a
    label. mature: the time before which no more labels arrive, so that equal shares of labels are
    enough; None if unknown. before: the rows used earlier, because few rows alone do not show a
    difference between the arms.
    """
    if not usable.any():
        return None, ""
    shares = []
    for arm in (rows.canary, ~rows.canary):
        seen = np.cumsum(arm)
        labelled = np.cumsum(arm & rows.labelled)
        shares.append(np.where(seen > 0, labelled / np.maximum(seen, 1), 1.0))
    ends = usable.copy()
    ends[: MIN_COVERED_ROWS - 1] = False
    good = ends & (shares[0] >= label_coverage) & (shares[1] >= label_coverage)
    last = int(np.flatnonzero(good)[-1]) if good.any() else -1
    canary, stable = float(shares[0][-1]), float(shares[1][-1])
    why = f"labels are late: {canary:.0%} of canary rows and {stable:.0%} of stable rows"
    old = usable & (rows.at < us_of(mature)) if mature is not None else np.zeros(0, bool)
    if old.any() and (end := int(old.nonzero()[0][-1])) > last:
        aged = rows.where(np.arange(len(rows.at)) <= end)
        enough = end + 1 >= MIN_AGED_ROWS and aged.has_both_arms
        # Rows with equal shares are a fair sample.
        if enough and min(shares[0][end], shares[1][end]) > 0:
            if before.with_rows(aged).is_equal:
                last = end
            else:
                why += "; the arms are compared once the shares are equal"
        elif not enough and last < 0:
            why = ""
    if last < 0:
        return None, why
    return time_of(int(rows.at[last])) + INSTANT, ""
