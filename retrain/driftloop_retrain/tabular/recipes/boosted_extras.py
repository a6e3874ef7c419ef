"""XGBoost and CatBoost, whose libraries come with the extra `export`."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.recipes.boosted_trees import BoostedTrees
from driftloop_retrain.tabular.recipes.encoding import fit_rows
from driftloop_retrain.tabular.recipes.port import FitContext
from driftloop_retrain.tabular.tuning.space import Parameters, Space, between, whole

if TYPE_CHECKING:
    from driftloop_export.boosted import Boosted

TREES, PATIENCE = 300, 30
MISSING = "the recipe {!r} needs its library: pip install 'driftloop[export]'"


@dataclass(frozen=True)
class _Boosted:
    """See Recipe and TreeLibrary. With a validation part the number of trees is found on it, and
    the model is grown anew with as many."""

    name: str = ""
    """Also that of the library."""
    own_parameters: ClassVar[Parameters] = {}
    kinds: ClassVar[tuple[str, str]]
    """The library's classes of models: of a classification, of a regression."""

    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> BoostedTrees:
        encoding, rows = fit_rows(train, context)
        labels = _labels(train, context)
        _check_classes(labels, context)
        chosen = {**self.own_parameters, **context.parameters}
        trees = context.rounds or TREES
        if validation is not None:
            pair = (encoding.matrix(validation.features), _labels(validation, context))
            model = self._estimator(context, chosen, trees, stops=True)
            model.fit(rows, labels, sample_weight=train.weights, eval_set=[pair], verbose=False)
            trees = max(1, self._best(model))
            context.report(0.6, None)
        model = self._estimator(context, chosen, trees, stops=False)
        model.fit(rows, labels, sample_weight=train.weights, verbose=False)
        return BoostedTrees(model, self, encoding, context.classes, trees)

    def _estimator(
        self, context: FitContext, parameters: Mapping[str, Any], trees: int, *, stops: bool
    ) -> Any:
        """stops: when the validation loss no longer falls."""
        try:
            library = import_module(self.name)
        except ImportError:
            raise Rejected(MISSING.format(self.name)) from None
        kind = getattr(library, self.kinds[context.classes is None])
        own = self._options(trees, context.seed)
        patience = PATIENCE if stops else None
        return kind(**own, early_stopping_rounds=patience, **parameters)

    def _options(self, trees: int, seed: int) -> dict[str, Any]:
        """The library's names for what both are given, and what it alone needs."""
        raise NotImplementedError

    def _best(self, model: Any) -> int:
        """The number of trees with the lowest validation loss."""
        raise NotImplementedError

    def margins(self, model: Any, matrix: NDArray[np.float32]) -> NDArray[Any]:
        """See TreeLibrary."""
        raise NotImplementedError

    def boosted(self, model: Any) -> "Boosted":
        """See TreeLibrary."""
        raise NotImplementedError


@dataclass(frozen=True)
class XgBoost(_Boosted):
    """See Recipe."""

    name: str = "xgboost"
    kinds: ClassVar[tuple[str, str]] = ("XGBClassifier", "XGBRegressor")
    own_parameters: ClassVar[Parameters] = {
        "learning_rate": 0.1, "max_depth": 6, "min_child_weight": 1.0, "subsample": 0.8,
        "colsample_bytree": 0.8, "reg_lambda": 1.0,
    }  # fmt: skip
    space: ClassVar[Space] = {
        "learning_rate": between(0.03, 0.3, log=True),
        "max_depth": whole(3, 10),
        "min_child_weight": between(0.5, 50.0, log=True),
        "subsample": between(0.5, 1.0),
        "colsample_bytree": between(0.4, 1.0),
        "reg_lambda": between(1e-2, 30.0, log=True),
    }

    def _options(self, trees: int, seed: int) -> dict[str, Any]:
        return {"n_estimators": trees, "random_state": seed, "n_jobs": 1}

    def _best(self, model: Any) -> int:
        return int(model.best_iteration) + 1

    def margins(self, model: Any, matrix: NDArray[np.float32]) -> NDArray[Any]:
        return np.asarray(model.predict(matrix, output_margin=True))

    def boosted(self, model: Any) -> "Boosted":
        from driftloop_export import xgboost_adapter

        return xgboost_adapter.XgBoost().boosted(model, None)


@dataclass(frozen=True)
class CatBoost(_Boosted):
    """See Recipe."""

    name: str = "catboost"
    kinds: ClassVar[tuple[str, str]] = ("CatBoostClassifier", "CatBoostRegressor")
    own_parameters: ClassVar[Parameters] = {
        "learning_rate": 0.1, "depth": 6, "l2_leaf_reg": 3.0, "random_strength": 1.0,
    }  # fmt: skip
    space: ClassVar[Space] = {
        "learning_rate": between(0.03, 0.3, log=True),
        "depth": whole(4, 9),
        "l2_leaf_reg": between(0.5, 30.0, log=True),
        "random_strength": between(0.1, 10.0, log=True),
    }

    def _options(self, trees: int, seed: int) -> dict[str, Any]:
        limits = {"thread_count": 1, "allow_writing_files": False}
        return {"iterations": trees, "random_seed": seed, **limits}

    def _best(self, model: Any) -> int:
        return int(model.get_best_iteration()) + 1

    def margins(self, model: Any, matrix: NDArray[np.float32]) -> NDArray[Any]:
        return np.asarray(model.predict(matrix, prediction_type="RawFormulaVal"))

    def boosted(self, model: Any) -> "Boosted":
        from driftloop_export import catboost_adapter

        return catboost_adapter.CatBoost().boosted(model, None)


def _labels(data: Dataset, context: FitContext) -> Any:
    """The classes as numbers, which is all that XGBoost takes."""
    return data.labels if context.classes is None else np.searchsorted(context.classes, data.labels)


def _check_classes(labels: Any, context: FitContext) -> None:
    """Raises Rejected if a class has no row, for which the libraries would make no score."""
    seen = set(np.unique(labels).tolist())
    if context.classes is not None and len(seen) < len(context.classes):
        missing = [c for i, c in enumerate(context.classes.tolist()) if i not in seen]
        raise Rejected(f"no row to train on has the label {missing[0]!r}")
