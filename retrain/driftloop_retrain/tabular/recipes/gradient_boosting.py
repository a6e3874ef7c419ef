"""Gradient boosted trees (LightGBM)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.recipes.boosted_trees import BoostedTrees
from driftloop_retrain.tabular.recipes.encoding import fit_rows
from driftloop_retrain.tabular.recipes.graph import Classes
from driftloop_retrain.tabular.recipes.port import FitContext
from driftloop_retrain.tabular.tuning.space import Parameters, Space, between, whole

if TYPE_CHECKING:
    from driftloop_export.boosted import Boosted

MAX_TREES, PATIENCE = 480, 48
FACTORS = (0.5, 2.5)
"""Of them, at most, for other learning rates."""
FOREST = 150
"""The trees of a random forest."""
LONGER = 1.5
"""Early stopping with few validation rows is too early: on car_loan the accuracy still rises after
the log loss has turned, and the final fit has more rows. It gets this factor times the trees."""
PARAMETERS: dict[str, Any] = {
    "learning_rate": 0.05, "num_leaves": 12, "min_data_in_leaf": 20, "num_threads": 1,
    "feature_fraction": 0.8, "bagging_fraction": 0.8, "bagging_freq": 1, "lambda_l2": 1.0,
    "deterministic": True, "force_row_wise": True, "verbosity": -1,
}  # fmt: skip
"""Small trees that learn slowly. With 20,000 rows they are better than LightGBM's own parameters on
all four data sets of the bench, and than 31 leaves at 0.08 by 1 to 4 % of the loss."""

TREES = "trees"
"""A parameter: the number of trees, whatever the validation rows say; without it they say."""
STARTS: tuple[Parameters, ...] = (
    {"learning_rate": 0.1, "num_leaves": 31, "min_data_in_leaf": 20, "feature_fraction": 1.0,
     "bagging_fraction": 1.0, "bagging_freq": 0, "lambda_l2": 0.0, TREES: 100},
    {"learning_rate": 0.08, "num_leaves": 31, "min_data_in_leaf": 20, "feature_fraction": 0.7,
     "bagging_fraction": 0.8, "lambda_l2": 1e-3},
    {"learning_rate": 0.05, "num_leaves": 80, "min_data_in_leaf": 40, "feature_fraction": 0.8,
     "bagging_fraction": 0.8, "lambda_l2": 1.0},
)  # fmt: skip
"""LightGBM's own defaults, and two with larger trees."""


@dataclass(frozen=True)
class GradientBoosting:
    """See Recipe. `parameters` override PARAMETERS."""

    name: str = "gradient-boosting"
    parameters: dict[str, Any] = field(default_factory=dict)
    space: ClassVar[Space] = {
        "learning_rate": between(0.02, 0.2, log=True),
        "num_leaves": whole(6, 200, log=True),
        "min_data_in_leaf": whole(5, 200, log=True),
        "feature_fraction": between(0.4, 1.0),
        "bagging_fraction": between(0.5, 1.0),
        "lambda_l2": between(1e-3, 30.0, log=True),
    }
    own_parameters: ClassVar[Parameters] = {**PARAMETERS}
    starts: ClassVar[tuple[Parameters, ...]] = STARTS

    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> BoostedTrees:
        return self.on_top(train, validation, context, None)

    def on_top(
        self,
        train: Dataset,
        validation: Dataset | None,
        context: FitContext,
        base: Callable[[pa.Table], NDArray[np.float64]] | None,
    ) -> BoostedTrees:
        """base: scores [n] or [n, classes] of n rows that the trees' scores are added to."""
        import lightgbm as lgb

        encoding, matrix = fit_rows(train, context)
        parameters = {
            **PARAMETERS,
            **_objective(context.classes),
            "seed": context.seed,
            **self.parameters,
            **context.parameters,
        }
        averaged, trees = parameters.get("boosting") == "rf", parameters.pop(TREES, None)
        is_given = averaged or trees is not None
        most = trees or (FOREST if averaged else _most_trees(float(parameters["learning_rate"])))
        rounds = ceil(LONGER * context.rounds) if context.rounds and not is_given else most

        def rows(data: Dataset, values: NDArray[np.float32], reference: Any = None) -> Any:
            return lgb.Dataset(
                values,
                _target(data, context.classes),
                weight=data.weights,
                init_score=None if base is None else base(data.features),
                reference=reference,
                free_raw_data=False,
            )

        def report(env: Any) -> None:
            loss = env.evaluation_result_list[0][2] if env.evaluation_result_list else None
            context.report((env.iteration + 1) / rounds, loss)

        fitted = rows(train, matrix)
        held = None
        if validation is not None:
            held = [rows(validation, encoding.matrix(validation.features), fitted)]
        callbacks: list[Any] = [report]
        stops = validation is not None and not is_given
        if stops:
            callbacks.append(lgb.early_stopping(PATIENCE * most // MAX_TREES, verbose=False))
        booster = lgb.train(
            parameters,
            fitted,
            num_boost_round=rounds,
            valid_sets=held,
            callbacks=callbacks,
        )
        best = booster.best_iteration if stops else rounds
        return BoostedTrees(booster, _LightGbm(), encoding, context.classes, max(1, best))


def _most_trees(learning_rate: float) -> int:
    """Slower learning needs more trees; the default rate takes MAX_TREES."""
    least, most = FACTORS
    factor = float(PARAMETERS["learning_rate"]) / learning_rate
    return ceil(MAX_TREES * min(most, max(least, factor)))


def _objective(classes: Classes) -> dict[str, Any]:
    if classes is None:
        return {"objective": "regression"}
    if len(classes) == 2:
        return {"objective": "binary"}
    return {"objective": "multiclass", "num_class": len(classes)}


def _target(data: Dataset, classes: Classes) -> NDArray[np.generic]:
    return data.labels if classes is None else np.searchsorted(classes, data.labels)


class _LightGbm:
    """See TreeLibrary."""

    def margins(self, model: Any, matrix: NDArray[np.float32]) -> NDArray[Any]:
        sums = np.asarray(model.predict(matrix, raw_score=True))
        # A forest's trees are averaged, not summed.
        return sums / (model.current_iteration() if model.params.get("boosting") == "rf" else 1)

    def boosted(self, model: Any) -> "Boosted":
        from driftloop_export.lightgbm_adapter import LightGbm

        return LightGbm().boosted(model, None)
