"""Measures how well both arms are labelled, and up to which time their quality may be compared."""

from dataclasses import dataclass, replace
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
UNEQUAL = (
    "of rows so old that nearly all labels have come, {:.0%} of the canary's and {:.0%} of the "
    "stable ones have one: whether a label comes depends on the version, so they are not compared. "
    "What would help: labels for the same rows of both; the shadow, if labels do not depend on the "
    'answer; or rollout.unequal_labels = "compare", if the labelled rows of each version are as '
    "good or bad as the others"
)


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

    def levelled(self, rows: ArmRows) -> ArmRows:
        """Return rows of which the arm that is labelled more often has lost labels, drawn at
        random, until both have the same share. With unequal shares a wrong expectation of the
        loss would look like a difference between the arms."""
        canary = self.canary_labelled / max(self.canary, 1)
        stable = self.stable_labelled / max(self.stable, 1)
        if self.is_equal or min(canary, stable) <= 0:
            return rows
        kept = np.where(rows.canary, min(1.0, stable / canary), min(1.0, canary / stable))
        lost = np.random.default_rng(int(rows.at[0])).random(len(kept)) >= kept
        others = tuple(np.where(lost, np.nan, losses) for losses in rows.others)
        return replace(rows, loss=np.where(lost, np.nan, rows.loss), others=others)


def labelled_until(
    rows: ArmRows,
    usable: NDArray[np.bool_],
    label_coverage: float,
    mature: datetime | None,
    before: Coverage,
    unequal: bool = False,
) -> tuple[datetime | None, str]:
    """Return the latest time up to which both arms are sufficiently labelled, or None; and the
    reason if later rows must wait.

    usable: after which rows [n] a used part may end. label_coverage: the share of rows that need a
    label. mature: the time before which no more labels arrive, so that equal shares of labels are
    enough; None if unknown. before: the rows used earlier, because few rows alone do not show a
    difference between the arms. unequal: whether rows are used though the shares differ.
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
            if unequal or before.with_rows(aged).is_equal:
                last = end
            else:
                why = UNEQUAL.format(shares[0][end], shares[1][end])
        elif not enough and last < 0:
            why = ""
    if last < 0:
        return None, why
    return time_of(int(rows.at[last])) + INSTANT, ""
