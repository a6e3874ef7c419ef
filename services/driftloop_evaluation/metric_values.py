"""The values of metrics of labelled rows, as scikit-learn defines them.

Importing scikit-learn takes 80 MB, and its checks of arguments take longer than the metrics, which
are computed 21 times for an interval (`shown_metrics`).
"""

import numpy as np
from numpy.typing import NDArray

from driftloop_evaluation.labels import Floats

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
TINY = float(np.finfo(np.float64).eps)


def accuracy(labels: Ints, answers: Ints) -> float:
    return float((labels == answers).mean())


def precision_recall_f1(labels: Ints, answers: Ints, classes: int) -> tuple[float, float, float]:
    """Of places of classes [n]: of two classes those of the second, else means over the classes
    that a label or an answer names; 0 where nothing is counted."""
    labelled = np.bincount(labels, minlength=classes)
    answered = np.bincount(answers, minlength=classes)
    right = np.bincount(labels[labels == answers], minlength=classes)
    kept = np.array([False, True]) if classes == 2 else labelled + answered > 0
    shares = [
        right / np.maximum(answered, 1),
        right / np.maximum(labelled, 1),
        2 * right / np.maximum(labelled + answered, 1),
    ]
    precision, recall, f1 = (float(share[kept].mean()) for share in shares)
    return precision, recall, f1


def log_loss(labels: Ints, p: Floats) -> float:
    """p [n, classes]."""
    chosen = p[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(chosen, TINY, 1.0 - TINY)).mean())


def roc_auc(positive: Bools, scores: Floats) -> float:
    """The share of pairs of a positive and a negative in the right order, ties half; NaN without
    one of them (Hanley and McNeil, "The meaning and use of the area under a ROC curve", 1982)."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    above = float(ranks[place][positive].sum()) - positives * (positives + 1) / 2
    return above / (positives * negatives)


def average_precision(positive: Bools, scores: Floats) -> float:
    """The area under the steps of precision over recall; NaN without a positive or a negative."""
    if not positive.any() or positive.all():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(positive[order])
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    steps = np.diff(found[last], prepend=0) / found[-1]
    return float((steps * found[last] / (last + 1)).sum())


def r2(labels: Floats, answers: Floats) -> float:
    """1 - the squared errors over those of the labels' mean; NaN for fewer than two rows, and 1 or
    0 if all labels are the same."""
    if len(labels) < 2:
        return float("nan")
    off, spread = ((labels - answers) ** 2).sum(), ((labels - labels.mean()) ** 2).sum()
    if not spread:
        return float(not off)
    return float(1.0 - off / spread)


def confusion(labels: Ints, answers: Ints, classes: int) -> Ints:
    """Return the counts [classes, classes] of rows by label and answer."""
    counts = np.bincount(labels * classes + answers, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)
