"""How well scores rank: by pairs of a positive and a negative row of one version."""

import numpy as np
from numpy.typing import NDArray

from driftloop_evaluation.labels import Floats


def pair_losses(
    scores: Floats, positive: NDArray[np.bool_], judged: NDArray[np.bool_], version: Floats
) -> Floats:
    """For each row of the rarer class, of n rows in the order of their time, the share of its
    opponents that it is ranked wrongly with; a tie counts half. The rows of the other class that
    the same version answered are divided among them, in that order, so that no two of them share
    an opponent: shared ones would make losses depend on each other, which no test of ours allows.
    NaN for other rows, and for all while one of the versions has rows of one class only: whether a
    row counts must not depend on the version that answered it. The mean is 1 - AUC (Hanley and
    McNeil, "The meaning and use of the area under a ROC curve", 1982)."""
    found = np.full(len(scores), np.nan)
    known = np.where(np.isnan(scores), np.where(positive, -np.inf, np.inf), scores)
    rarer = positive
    if 2 * positive[judged].sum() > judged.sum():
        rarer, known = ~positive, -known
    for v in np.unique(version[judged]):
        mine = judged & (version == v)
        own, others = np.flatnonzero(mine & rarer), np.flatnonzero(mine & ~rarer)
        if not len(own) or not len(others):
            return np.full(len(scores), np.nan)
        first = np.arange(len(own) + 1) * len(others) // len(own)
        sizes = np.maximum(np.diff(first), 1)
        begin = np.cumsum(sizes) - sizes
        opponents = others[np.repeat(first[:-1] - begin, sizes) + np.arange(sizes.sum())]
        score, against = np.repeat(known[own], sizes), known[opponents]
        wrong = (against > score) + 0.5 * (against == score)
        found[own] = np.add.reduceat(wrong, begin) / sizes
    return found
