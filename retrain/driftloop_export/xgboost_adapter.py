"""XGBoost: boosters and the estimators of its scikit-learn interface."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from driftloop_contracts.kind import Task
from driftloop_export.boosted import Boosted, Link, answers_of
from driftloop_export.classes import classes_from
from driftloop_export.port import Body, NotExportable, Outputs
from driftloop_export.sample import Sample
from driftloop_export.trees import LT, MEMBER, Branch, Leaf

_LINKS: dict[str, Link] = {
    "binary:logistic": "sigmoid", "binary:logitraw": "identity", "multi:softprob": "softmax",
    "multi:softmax": "softmax", "reg:logistic": "sigmoid", "reg:squarederror": "identity",
    "reg:squaredlogerror": "identity", "reg:pseudohubererror": "identity",
    "reg:absoluteerror": "identity", "reg:quantileerror": "identity", "reg:gamma": "exp",
    "reg:tweedie": "exp", "count:poisson": "exp", "rank:pairwise": "identity",
    "rank:ndcg": "identity", "rank:map": "identity",
}  # fmt: skip


class XgBoost:
    """See Adapter."""

    def columns(self, model: Any) -> Sequence[str] | None:
        names: Sequence[str] | None = _booster(model).feature_names
        return names

    def answers(self, model: Any, sample: Sample, _task: Task | None) -> Outputs:
        import xgboost

        rows = sample.pandas if self.columns(model) else sample.matrix()
        classes = _classes(model)
        if hasattr(model, "get_booster"):
            if classes is None:
                return answers_of(model.predict(rows), None)
            labels = model.predict(rows)
            return answers_of(model.predict_proba(rows), classes, labels)
        found = model.predict(xgboost.DMatrix(rows, enable_categorical=True))
        if classes is not None and found.ndim == 1 and len(classes) > 2:
            return {"label": found.astype(np.int64)}  # multi:softmax says no probabilities
        return answers_of(found, classes)

    def bodies(self, model: Any, sample: Sample, _answers: Outputs) -> Iterator[Body]:
        yield self.boosted(model, sample).body(sample)

    def boosted(self, model: Any, sample: Sample | None) -> Boosted:
        """`sample` None: behind other steps of a pipeline, which give numbers only."""
        booster = _booster(model)
        learner = _learner(model)
        objective = learner["objective"]["name"]
        if objective not in _LINKS:
            raise NotExportable(
                f"XGBoost's objective {objective!r} has no form as a graph here; train with "
                f"another one, such as {', '.join(list(_LINKS)[:3])}"
            )
        gradient = learner["gradient_booster"]
        weights = gradient.get("weight_drop")
        gradient = gradient.get("gbtree", gradient)
        if "trees" not in gradient.get("model", {}):
            raise NotExportable(
                "XGBoost's booster `gblinear` has no trees: use a linear model of scikit-learn"
            )
        classes, link = _classes(model), _LINKS[objective]
        base = _base(learner["learner_model_param"]["base_score"], link)
        scores = 1 if classes is None or (len(classes) == 2 and link == "sigmoid") else len(classes)
        trees = [
            _Tree(document, int(score), 1.0 if weights is None else weights[number]).read()
            for number, (document, score) in enumerate(
                zip(gradient["model"]["trees"], gradient["model"]["tree_info"], strict=True)
            )
        ]
        return Boosted(
            trees,
            base=list(base) * scores if len(base) == 1 else list(base),
            link=link,
            columns=booster.num_features(),
            classes=classes,
            float32=True,
            categories=_categories(booster, sample),
        )


class _Tree:
    """One tree of XGBoost's JSON form."""

    def __init__(self, document: dict[str, Any], score: int, weight: float) -> None:
        self._document, self._score, self._weight = document, score, weight
        if int(document["tree_param"].get("size_leaf_vector", 1)) > 1:
            raise NotExportable("XGBoost's `multi_output_tree` has no form as a graph")
        starts, sizes = document["categories_segments"], document["categories_sizes"]
        self._right = {
            node: document["categories"][start : start + size]
            for node, start, size in zip(document["categories_nodes"], starts, sizes, strict=True)
        }

    def read(self, node: int = 0) -> Branch | Leaf:
        tree = self._document
        left, right = tree["left_children"][node], tree["right_children"][node]
        condition = float(np.float32(tree["split_conditions"][node]))
        if left == -1:
            return Leaf({self._score: condition * self._weight})
        yes, no = self.read(left), self.read(right)
        feature, to_left = tree["split_indices"][node], bool(tree["default_left"][node])
        if node in self._right:
            members = tuple(map(float, self._right[node]))
            return Branch(feature, MEMBER, 0.0, not to_left, no, yes, members)
        return Branch(feature, LT, condition, to_left, yes, no)


def _booster(model: Any) -> Any:
    """As far as predictions use it: up to the best round of an early stop."""
    if not hasattr(model, "get_booster"):
        return model
    booster = model.get_booster()
    best = getattr(model, "best_iteration", None) if model.early_stopping_rounds else None
    return booster if best is None else booster[: best + 1]


def _learner(model: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(_booster(model).save_raw("json")))["learner"]
    return found


def _classes(model: Any) -> Any:
    if hasattr(model, "get_booster"):
        return classes_from(model.classes_) if hasattr(model, "classes_") else None
    learner = _learner(model)
    if learner["objective"]["name"] == "binary:logistic":
        return np.arange(2, dtype=np.int64)
    if learner["objective"]["name"].startswith("multi:"):
        return np.arange(int(learner["learner_model_param"]["num_class"]), dtype=np.int64)
    return None


def _base(written: Any, link: Link) -> tuple[float, ...]:
    """What scores start at, before the link; XGBoost writes it behind the link."""
    values = json.loads(written) if isinstance(written, str) else written
    base = np.atleast_1d(np.asarray(values, np.float64))
    if link == "sigmoid":
        base = np.log(base / (1.0 - base))
    elif link == "exp":
        base = np.log(base)
    return tuple(float(value) for value in base)


def _categories(booster: Any, sample: Sample | None) -> dict[int, Sequence[Any]]:
    if sample is None or "c" not in (booster.feature_types or ()):
        return {}
    held = booster.get_categories(export_to_arrow=True)  # its arrays lie in XGBoost's memory
    return {
        number: _texts(found, sample.pandas.iloc[:, number])
        for number, (_, found) in enumerate(held.to_arrow())
        if found is not None
    }


def _texts(found: Any, column: Any) -> Sequence[Any]:
    """XGBoost 3.2 cuts texts beyond ASCII at wrong places; then the sample's own categories, in
    whose order it has been trained, if they are as many."""
    try:
        known: list[Any] = found.to_pylist()
        return known
    except UnicodeDecodeError:
        if str(column.dtype) == "category" and len(column.cat.categories) == len(found):
            return list(column.cat.categories)
        raise NotExportable(
            f"XGBoost has not kept the categories of {column.name!r}: give a sample whose column "
            "has the pandas type `category` with the same categories as in training"
        ) from None
