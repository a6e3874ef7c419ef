"""XGBoost and CatBoost, whose libraries come with the extra `export`: numbers as they are, texts as
the positions of their categories."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from driftloop_contracts.errors import Rejected
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.recipes.coded_labels import CodedLabels
from driftloop_retrain.tabular.recipes.own_recipe import KEPT
from driftloop_retrain.tabular.recipes.port import FitContext
from driftloop_retrain.tabular.tuning.space import Parameters, Space, between, whole

TREES, PATIENCE = 300, 30
MISSING = "the recipe {!r} needs its library: pip install 'driftloop[export]'"


@dataclass(frozen=True)
class _Boosted:
    """See Recipe. With a validation part the number of trees is found on it, and the model is grown
    anew with as many."""

    name: str = ""
    """Also that of the library."""
    own_parameters: ClassVar[Parameters] = {}
    kinds: ClassVar[tuple[str, str]]
    """The library's classes of models: of a classification, of a regression."""

    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> CodedLabels:
        from sklearn.pipeline import make_pipeline

        from driftloop_export import Native

        columns, labels = _columns(context), _labels(train, context)
        rows = columns.fit_transform(train.features.to_pandas())
        chosen = {**self.own_parameters, **context.parameters}
        trees = context.rounds or TREES
        if validation is not None:
            held = columns.transform(validation.features.to_pandas())
            model = self._estimator(context, chosen, trees, stops=True)
            pair = [(held, _labels(validation, context))]
            model.fit(rows, labels, sample_weight=train.weights, eval_set=pair, verbose=False)
            trees = max(1, self._best(model))
            context.report(0.6, None)
        model = self._estimator(context, chosen, trees, stops=False)
        model.fit(rows, labels, sample_weight=train.weights, verbose=False)
        native = Native(make_pipeline(columns, model), context.task)
        kept = context.checkpoints / KEPT
        return CodedLabels(native, train, kept, rounds=trees, classes=context.classes)

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


def _labels(data: Dataset, context: FitContext) -> Any:
    """The classes as numbers, which is all that XGBoost takes."""
    return data.labels if context.classes is None else np.searchsorted(context.classes, data.labels)


def _columns(context: FitContext) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OrdinalEncoder

    texts = [tensor.name for tensor in context.inputs if tensor.datatype == "BYTES"]
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return make_column_transformer((codes, texts), remainder="passthrough")
