"""How well scores rank: by pairs of a positive and a negative row of one time and one version."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from driftloop_evaluation.labels import Floats

NEIGHBOURS = 100
"""A positive is compared with this many negatives before it and as many after it, at most."""
AT_ONCE = 1_000
"""Positives that are compared at a time: each takes 3 KB."""


def pair_losses(
    scores: Floats, positive: NDArray[np.bool_], judged: NDArray[np.bool_], version: Floats
) -> Floats:
    """For each positive of n rows, in the order of their time, the share of the negatives near it,
    answered by the same version, that score higher; a tie counts half. NaN for other rows, and for
    all while one of the versions has no negative: whether a row counts must not depend on the
    version that answered it. The mean is 1 - AUC of rows near in time (Hanley and McNeil, "The
    meaning and use of the area under a ROC curve", 1982)."""
    found = np.full(len(scores), np.nan)
    present = np.unique(version[judged])
    negatives = {v: np.flatnonzero(judged & ~positive & (version == v)) for v in present}
    if any(not len(rows) for rows in negatives.values()):
        return found
    known = np.where(np.isnan(scores), np.where(positive, -np.inf, np.inf), scores)
    for v, rows in negatives.items():
        own = np.flatnonzero(judged & positive & (version == v))
        place, beside = np.searchsorted(rows, own), np.full(NEIGHBOURS, np.nan)
        near = sliding_window_view(np.concatenate([beside, known[rows], beside]), 2 * NEIGHBOURS)
        for at in range(0, len(own), AT_ONCE):
            some = slice(at, at + AT_ONCE)
            others, score = near[place[some]], known[own[some], None]
            wrong = (others > score).sum(1) + 0.5 * (others == score).sum(1)
            found[own[some]] = wrong / (~np.isnan(others)).sum(1)
    return found
