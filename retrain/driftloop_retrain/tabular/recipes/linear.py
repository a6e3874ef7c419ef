"""A regularised linear model: numbers standardised, categories one-hot. Of several penalties (L2,
L1, elastic net) the one is taken that validates best.

It is a network without hidden layers, in which the table of a category has its coefficients. So its
answers and its graph are those of `tabular-network`.
"""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.graph_names import probabilities_of
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.recipes.encoding import fit_rows
from driftloop_retrain.tabular.recipes.network_layout import Layout, layout_of, prepared
from driftloop_retrain.tabular.recipes.port import FitContext
from driftloop_retrain.tabular.recipes.tabular_network import FittedNetwork, Weights

PENALTIES = ((1e-4, 0.0), (1e-2, 0.0), (1e-2, 0.5), (1e-2, 1.0), (1e-3, 1.0))
"""(strength per row, share of L1)."""
MAX_ITERATIONS = 300
UNSEEN = -30.0
"""The score of a class without a training row."""


class Linear:
    """See Recipe. The `rounds` of a fit are the number of its penalty, counted from 1."""

    name = "linear"

    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> FittedNetwork:
        encoding, matrix = fit_rows(train, context)
        layout = layout_of(encoding, matrix, train.labels, context.classes, {"hidden": ()})
        layout = _with_coefficients(layout)
        rows, targets = _sparse(layout, matrix), _targets(layout, train, context)
        tried = range(1, len(PENALTIES) + 1) if validation is not None else (context.rounds or 1,)
        best: tuple[float, FittedNetwork] | None = None
        for number in tried:
            found = _fitted(rows, targets, train.weights, context, *PENALTIES[number - 1])
            weights = _weights(layout, *found)
            model = FittedNetwork(layout, weights, encoding, context.classes, number)
            loss = 0.0 if validation is None else _loss(model, validation)
            if best is None or loss < best[0]:
                best = (loss, model)
            context.report(number / len(PENALTIES), None if validation is None else loss)
        assert best is not None
        return best[1]


def _with_coefficients(layout: Layout) -> Layout:
    """With tables of coefficients in place of embeddings."""
    tables = {column: (kinds, layout.outputs) for column, (kinds, _) in layout.embeddings.items()}
    return replace(layout, embeddings=tables)


def _sparse(layout: Layout, matrix: NDArray[np.float32]) -> Any:
    """[n, numbers and their indicators, then each category's column]; sparse if there are such."""
    from scipy import sparse

    dense, codes = (part.numpy() for part in prepared(layout, matrix))
    if not layout.embeddings:
        return dense
    parts, at = [sparse.csr_array(dense)], np.arange(len(dense) + 1, dtype=np.int32)
    for code, (kinds, _) in zip(codes.T, layout.embeddings.values(), strict=True):
        ones = np.ones(len(dense), np.float32)
        known = sparse.csr_array((ones, code.astype(np.int32), at), shape=(len(dense), kinds))
        parts.append(known[:, 1:])  # the first column is that of unknown ones
    return sparse.hstack(parts, format="csr")


def _targets(layout: Layout, train: Dataset, context: FitContext) -> NDArray[np.generic]:
    if context.classes is not None:
        return np.searchsorted(context.classes, train.labels)
    return np.asarray((train.labels.astype(np.float64) - layout.center) / layout.spread)


def _fitted(
    rows: Any,
    targets: NDArray[np.generic],
    weights: NDArray[np.float64],
    context: FitContext,
    strength: float,
    l1_share: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients [outputs, columns] and intercepts [outputs]."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge

    model: Any
    if context.classes is not None:
        model = LogisticRegression(
            C=1 / (strength * len(targets)),
            l1_ratio=l1_share,
            solver="saga",
            max_iter=MAX_ITERATIONS,
            random_state=context.seed,
        )
    elif l1_share:
        model = ElasticNet(alpha=strength, l1_ratio=l1_share, max_iter=MAX_ITERATIONS)
    else:
        model = Ridge(alpha=strength * len(targets))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows, targets, sample_weight=weights)
    slopes, starts = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
    if context.classes is None:
        return slopes, starts
    found = model.classes_[1:] if len(model.classes_) == 2 else model.classes_
    # A class that training did not see is never likely.
    coefficients = np.zeros((len(context.classes), slopes.shape[1]))
    intercepts = np.full(len(context.classes), UNSEEN)
    intercepts[model.classes_] = 0.0
    coefficients[found], intercepts[found] = slopes, starts
    return coefficients, intercepts


def _weights(
    layout: Layout, coefficients: NDArray[np.float64], intercepts: NDArray[np.float64]
) -> Weights:
    """As those of a network: tables are added to what the numbers give."""
    numbers = 2 * len(layout.numeric)
    tables, start = {}, numbers
    for column, (kinds, _) in layout.embeddings.items():
        part = coefficients[:, start : start + kinds - 1].T
        unknown = np.zeros((1, layout.outputs))
        tables[f"tables.{column}.weight"] = np.concatenate([unknown, part]).astype(np.float32)
        start += kinds - 1
    sums = np.tile(np.eye(layout.outputs), len(tables))
    last = np.concatenate([coefficients[:, :numbers], sums], axis=1)
    return {
        **tables,
        "layers.0.weight": last.astype(np.float32),
        "layers.0.bias": intercepts.astype(np.float32),
    }


def _loss(model: FittedNetwork, held: Dataset) -> float:
    answers = model.predict(held.features)
    probabilities, classes = probabilities_of(answers), model.classes
    if classes is None or probabilities is None:
        (values,) = answers.values()
        return float(((values.astype(np.float64) - held.labels.astype(np.float64)) ** 2).mean())
    chosen = probabilities[np.arange(held.rows), np.searchsorted(classes, held.labels)]
    return float(-np.log(np.clip(chosen.astype(np.float64), 1e-7, 1.0)).mean())
