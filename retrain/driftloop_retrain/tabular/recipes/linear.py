"""A regularised linear model: numbers standardised, texts one-hot. Of several penalties (L2, L1,
elastic net) the one is taken that validates best."""

import warnings
from typing import Any

import numpy as np

from driftloop_contracts.kind import Task
from driftloop_contracts.signature import TensorSpec
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.recipes.own_recipe import KEPT, FittedNative
from driftloop_retrain.tabular.recipes.port import FitContext

PENALTIES = ((1e-4, 0.0), (1e-2, 0.0), (1e-2, 0.5), (1e-2, 1.0), (1e-3, 1.0))
"""(strength per row, share of L1)."""
MAX_ITERATIONS = 300


class Linear:
    """See Recipe. The `rounds` of a fit are the number of its penalty, counted from 1."""

    name = "linear"

    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> FittedNative:
        from driftloop_export import Native

        tried = range(1, len(PENALTIES) + 1) if validation is not None else (context.rounds or 1,)
        best: tuple[float, int, Any] | None = None
        for number in tried:
            model = _fitted(train, context, *PENALTIES[number - 1])
            loss = 0.0 if validation is None else _loss(model, validation, context.task)
            if best is None or loss < best[0]:
                best = (loss, number, model)
            context.report(number / len(PENALTIES), None if validation is None else loss)
        assert best is not None
        return FittedNative(
            Native(best[2], context.task), train, context.checkpoints / KEPT, rounds=best[1]
        )


def _fitted(train: Dataset, context: FitContext, strength: float, l1_share: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline

    last: Any
    if context.task == "classification":
        last = LogisticRegression(
            C=1 / (strength * train.rows),
            l1_ratio=l1_share,
            solver="saga",
            max_iter=MAX_ITERATIONS,
            random_state=context.seed,
        )
    elif l1_share:
        alpha = strength * float(train.labels.astype(np.float64).std())
        last = ElasticNet(alpha=alpha, l1_ratio=l1_share, max_iter=MAX_ITERATIONS)
    else:
        last = Ridge(alpha=strength * train.rows)
    model = make_pipeline(_columns(context.inputs), last)
    name = f"{type(last).__name__.lower()}__sample_weight"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(train.features.to_pandas(), train.labels, **{name: train.weights})


def _columns(inputs: tuple[TensorSpec, ...]) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    texts = [tensor.name for tensor in inputs if tensor.datatype == "BYTES"]
    numbers = [tensor.name for tensor in inputs if tensor.datatype != "BYTES"]
    scaled = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
    )
    steps = ((scaled, numbers), (OneHotEncoder(handle_unknown="ignore"), texts))
    return make_column_transformer(*(step for step in steps if step[1]))


def _loss(model: Any, held: Dataset, task: Task) -> float:
    rows = held.features.to_pandas()
    if task == "regression":
        return float(np.mean((model.predict(rows) - held.labels.astype(np.float64)) ** 2))
    known = np.searchsorted(model.classes_, held.labels).clip(0, len(model.classes_) - 1)
    chosen = model.predict_proba(rows)[np.arange(held.rows), known]
    right = model.classes_[known] == held.labels
    return float(-np.log(np.clip(np.where(right, chosen, 0.0), 1e-7, 1.0)).mean())
