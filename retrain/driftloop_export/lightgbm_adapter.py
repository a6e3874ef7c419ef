"""LightGBM: boosters and the estimators of its scikit-learn interface."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from driftloop_contracts.kind import Task
from driftloop_export.boosted import Boosted, Link, answers_of
from driftloop_export.classes import classes_from
from driftloop_export.port import Body, NotExportable, Outputs
from driftloop_export.sample import Sample
from driftloop_export.trees import LEQ, MEMBER, Branch, Leaf

_LINKS: dict[str, Link] = {
    "binary": "sigmoid", "cross_entropy": "sigmoid", "multiclass": "softmax",
    "multiclassova": "sigmoid", "poisson": "exp", "gamma": "exp", "tweedie": "exp",
    "regression": "identity", "regression_l1": "identity", "huber": "identity",
    "fair": "identity", "quantile": "identity", "mape": "identity", "lambdarank": "identity",
    "rank_xendcg": "identity",
}  # fmt: skip
_CLASSIFIERS = ("binary", "multiclass", "multiclassova")


class LightGbm:
    """See Adapter."""

    def columns(self, model: Any) -> Sequence[str] | None:
        names = list(_booster(model).feature_name())
        unnamed = names == [f"Column_{number}" for number in range(len(names))]
        return None if unnamed else names

    def answers(self, model: Any, sample: Sample, _task: Task | None) -> Outputs:
        rows = sample.pandas if self.columns(model) else sample.matrix()
        classes = _classes(model)
        if classes is None:
            return answers_of(model.predict(rows), None)
        if hasattr(model, "predict_proba"):
            return answers_of(model.predict_proba(rows), classes, model.predict(rows))
        return answers_of(model.predict(rows), classes)

    def bodies(self, model: Any, sample: Sample, _answers: Outputs) -> Iterator[Body]:
        yield self.boosted(model, sample).body(sample)

    def boosted(self, model: Any, sample: Sample | None) -> Boosted:
        """`sample` None: behind other steps of a pipeline, which give numbers only."""
        booster = _booster(model)
        best = booster.best_iteration
        dump = booster.dump_model(num_iteration=best if best > 0 else None)
        name, *rest = _objective(model)
        if name not in _LINKS:
            raise NotExportable(
                f"LightGBM's objective {name!r} is a function of your own or unknown here, so that "
                "what follows the trees cannot be exported; train with a built-in objective"
            )
        if name == "regression" and "sqrt" in rest:
            raise NotExportable("LightGBM's `reg_sqrt` cannot be exported: transform the label")
        per_round = dump["num_tree_per_iteration"]
        rounds = max(1, len(dump["tree_info"]) // per_round)
        share = 1.0 / rounds if dump.get("average_output") else 1.0
        trees = [
            _tree(info["tree_structure"], number % per_round, share)
            for number, info in enumerate(dump["tree_info"])
        ]
        factor = next((float(r.partition(":")[2]) for r in rest if r.startswith("sigmoid:")), 1.0)
        return Boosted(
            trees,
            base=[0.0] * per_round,
            link=_LINKS[name],
            columns=booster.num_feature(),
            classes=_classes(model),
            factor=factor,
            categories=_categories(booster, sample),
        )


def _booster(model: Any) -> Any:
    return getattr(model, "booster_", model)


def _objective(model: Any) -> list[str]:
    """Its name, and its parameters."""
    return str(_booster(model).dump_model(num_iteration=1).get("objective", "custom")).split()


def _classes(model: Any) -> Any:
    if hasattr(model, "classes_"):
        return classes_from(model.classes_)
    name, *rest = _objective(model)
    if name not in _CLASSIFIERS:
        return None
    number = next((int(r.partition(":")[2]) for r in rest if r.startswith("num_class:")), 2)
    return np.arange(number, dtype=np.int64)


def _categories(booster: Any, sample: Sample | None) -> dict[int, Sequence[Any]]:
    """Of the columns that pandas holds as categories, in the order in which it was trained."""
    known = booster.pandas_categorical or []
    if sample is None or not known:
        return {}
    dtypes = sample.pandas.dtypes
    numbers = [i for i, dtype in enumerate(dtypes) if str(dtype) == "category"]
    if len(numbers) != len(known):
        raise NotExportable(
            f"the model was trained on {len(known)} columns of pandas' type `category`, and the "
            f"sample has {len(numbers)}: give it the same types"
        )
    return dict(zip(numbers, known, strict=True))


def _tree(node: dict[str, Any], score: int, share: float) -> Branch | Leaf:
    if "split_feature" not in node:
        if "leaf_coeff" in node:
            raise NotExportable("LightGBM's `linear_tree` has no form as a graph: train without it")
        return Leaf({score: float(node["leaf_value"]) * share})
    left = _tree(node["left_child"], score, share)
    right = _tree(node["right_child"], score, share)
    feature = int(node["split_feature"])
    if node["missing_type"] == "Zero":
        raise NotExportable("LightGBM's `zero_as_missing` cannot be exported: use NaN instead")
    if node["decision_type"] == "==":
        chosen = tuple(float(category) for category in str(node["threshold"]).split("||"))
        return Branch(feature, MEMBER, 0.0, False, left, right, chosen)
    threshold = float(node["threshold"])
    # Where no NaN was met in training LightGBM takes one for 0.
    nan_left = node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0.0
    return Branch(feature, LEQ, threshold, bool(nan_left), left, right)
