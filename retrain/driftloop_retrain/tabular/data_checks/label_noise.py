"""Labels that are probably wrong, by cleanlab: those that a model trained on other rows is sure
about otherwise. They are counted and shown, not left out."""

from dataclasses import replace
from typing import Any

import numpy as np

from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.recipes.gradient_boosting import GradientBoosting
from driftloop_retrain.tabular.recipes.port import FitContext

MAX_ROWS = 5_000
"""The newest rows that are looked at: memory and time are bounded, whatever the data."""
MIN_ROWS, MIN_CLASS_ROWS, MAX_CLASSES = 500, 15, 50
FOLDS, ROUNDS = 3, 30
SHOWN = 10


def suspected_labels(data: Dataset, context: FitContext) -> dict[str, Any] | None:
    """{rows: looked at, suspected: how many, examples: row numbers, the most suspicious first}.
    None for values, and for too few rows or too many classes."""
    if context.task != "classification":
        return None
    first = max(0, data.rows - MAX_ROWS)
    newest = data.slice(first, data.rows)
    names, codes, rows = np.unique(newest.labels, return_inverse=True, return_counts=True)
    common = rows[codes] >= MIN_CLASS_ROWS
    places = np.flatnonzero(common)
    names = names[rows >= MIN_CLASS_ROWS]
    if len(places) < MIN_ROWS or not 2 <= len(names) <= MAX_CLASSES:
        return None
    from cleanlab.filter import find_label_issues

    looked_at = newest.where(common)
    labels = np.searchsorted(names, looked_at.labels)
    issues = find_label_issues(
        labels,
        _out_of_fold(looked_at, replace(context, classes=names, rounds=ROUNDS)),
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    return {
        "rows": len(places),
        "suspected": len(issues),
        "examples": [int(first + places[row]) for row in issues[:SHOWN]],
    }


def _out_of_fold(data: Dataset, context: FitContext) -> np.ndarray:
    """Probabilities [n, classes] by models that did not see the row."""
    assert context.classes is not None
    found = np.zeros((data.rows, len(context.classes)))
    folds = np.arange(data.rows) % FOLDS
    for fold in range(FOLDS):
        within = replace(context, checkpoints=context.checkpoints / f"noise-{fold}")
        model = GradientBoosting().fit(data.where(folds != fold), None, within)
        held = folds == fold
        probabilities = model.predict(data.where(held).features)["probabilities"]
        found[held] = probabilities.astype(np.float64)
    return np.asarray(found / found.sum(axis=1, keepdims=True))
