"""Gradient boosted trees (LightGBM).

The graph is written directly from the trees. For a float32 x, a split `x <= t` equals `x <= (t
rounded down to float32)`, so the graph takes exactly the native model's paths. Converters round to
nearest, which sends some rows down another path.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.recipes.encoding import Encoding, fit_rows
from driftloop_retrain.tabular.recipes.graph import MATRIX, SCORES, Classes, head, write_graph
from driftloop_retrain.tabular.recipes.port import FitContext
from driftloop_retrain.tabular.tuning.space import Parameters, Space, between, whole

MAX_TREES, PATIENCE = 300, 30
MOST_FACTOR = 4.0
FOREST = 150
"""The trees of a random forest."""
LONGER = 1.5
"""Early stopping with few validation rows is too early: on car_loan the accuracy still rises after
the log loss has turned, and the final fit has more rows. It gets this factor times the trees."""
PARAMETERS: dict[str, Any] = {
    "learning_rate": 0.08, "num_leaves": 31, "min_data_in_leaf": 20, "num_threads": 1,
    "feature_fraction": 0.7, "bagging_fraction": 0.8, "bagging_freq": 1,
    "deterministic": True, "force_row_wise": True, "verbosity": -1,
}  # fmt: skip

STARTS: tuple[Parameters, ...] = (
    {"learning_rate": 0.1, "num_leaves": 31, "min_data_in_leaf": 20, "feature_fraction": 1.0,
     "bagging_fraction": 1.0, "lambda_l2": 1e-3},
    {"learning_rate": 0.05, "num_leaves": 12, "min_data_in_leaf": 20, "feature_fraction": 0.8,
     "bagging_fraction": 0.8, "lambda_l2": 1.0},
    {"learning_rate": 0.05, "num_leaves": 80, "min_data_in_leaf": 40, "feature_fraction": 0.8,
     "bagging_fraction": 0.8, "lambda_l2": 1.0},
)  # fmt: skip
"""LightGBM's own, and smaller and larger trees that learn more slowly."""


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

    def fit(
        self, train: Dataset, validation: Dataset | None, context: FitContext
    ) -> "BoostedTrees":
        return self.on_top(train, validation, context, None)

    def on_top(
        self,
        train: Dataset,
        validation: Dataset | None,
        context: FitContext,
        base: Callable[[pa.Table], NDArray[np.float64]] | None,
    ) -> "BoostedTrees":
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
        averaged = parameters.get("boosting") == "rf"
        most = FOREST if averaged else _most_trees(float(parameters["learning_rate"]))
        rounds = ceil(LONGER * context.rounds) if context.rounds and not averaged else most

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
        stops = validation is not None and not averaged
        if stops:
            callbacks.append(lgb.early_stopping(PATIENCE * most // MAX_TREES, verbose=False))
        booster = lgb.train(
            parameters,
            fitted,
            num_boost_round=rounds,
            valid_sets=held,
            callbacks=callbacks,
        )
        trees = booster.best_iteration if stops else rounds
        return BoostedTrees(booster, encoding, context.classes, max(1, trees), averaged)


def _most_trees(learning_rate: float) -> int:
    """Slower learning needs more trees; the default rate takes MAX_TREES."""
    factor = float(PARAMETERS["learning_rate"]) / learning_rate
    return ceil(MAX_TREES * min(MOST_FACTOR, max(1.0, factor)))


def _objective(classes: Classes) -> dict[str, Any]:
    if classes is None:
        return {"objective": "regression"}
    if len(classes) == 2:
        return {"objective": "binary"}
    return {"objective": "multiclass", "num_class": len(classes)}


def _target(data: Dataset, classes: Classes) -> NDArray[np.generic]:
    return data.labels if classes is None else np.searchsorted(classes, data.labels)


@dataclass(frozen=True)
class BoostedTrees:
    """See FittedModel."""

    booster: Any
    encoding: Encoding
    classes: Classes
    rounds: int
    averaged: bool = False
    """A forest's trees are averaged, not summed."""

    @property
    def _binary(self) -> bool:
        return self.classes is not None and len(self.classes) == 2

    def predict(self, features: pa.Table) -> dict[str, NDArray[np.generic]]:
        matrix = self.encoding.matrix(features)
        raw = self.booster.predict(matrix, raw_score=True, num_iteration=self.rounds)
        scores = np.asarray(raw).reshape(len(matrix), -1) / (self.rounds if self.averaged else 1)
        if self._binary:
            scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
        return head(scores, self.classes, self.encoding.names)

    def export(self, folder: Path) -> None:
        from onnx import helper

        dump = self.booster.dump_model(num_iteration=self.rounds)
        per_round = dump["num_tree_per_iteration"]
        ensemble = _Ensemble(1 / len(dump["tree_info"]) * per_round if self.averaged else 1.0)
        for number, tree in enumerate(dump["tree_info"]):
            target = 1 if self._binary else number % per_round
            ensemble.add(number, target, tree["tree_structure"])
        targets = 1 if self.classes is None else len(self.classes)
        node = helper.make_node(
            "TreeEnsembleRegressor",
            [MATRIX],
            [SCORES],
            domain="ai.onnx.ml",
            n_targets=targets,
            aggregate_function="SUM",
            post_transform="NONE",
            **ensemble.attributes,
        )
        write_graph(folder, self.encoding, [node], [], self.classes)


class _Ensemble:
    """Trees as the parallel lists that ONNX uses."""

    def __init__(self, factor: float) -> None:
        """factor: of the leaves' values."""
        self._factor = factor
        names = (
            "nodes_treeids",
            "nodes_nodeids",
            "nodes_modes",
            "nodes_featureids",
            "nodes_values",
            "nodes_truenodeids",
            "nodes_falsenodeids",
            "nodes_missing_value_tracks_true",
            "target_treeids",
            "target_nodeids",
            "target_ids",
            "target_weights",
        )
        self.attributes: dict[str, list[Any]] = {name: [] for name in names}

    def add(self, tree: int, target: int, root: dict[str, Any]) -> None:
        """Add LightGBM's nested nodes, numbered in the order of traversal."""
        waiting, count = [(0, root)], 1
        while waiting:
            number, node = waiting.pop()
            if "split_feature" not in node:
                self._node(tree, number, "LEAF")
                for name, value in zip(
                    ("target_treeids", "target_nodeids", "target_ids", "target_weights"),
                    (tree, number, target, self._factor * node["leaf_value"]),
                    strict=True,
                ):
                    self.attributes[name].append(value)
                continue
            threshold = node["threshold"]
            # If training had no NaN, LightGBM treats it as 0.
            missing_left = (
                node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0.0
            )
            self._node(
                tree,
                number,
                "BRANCH_LEQ",
                node["split_feature"],
                _rounded_down(threshold),
                count,
                count + 1,
                int(missing_left),
            )
            waiting += [(count, node["left_child"]), (count + 1, node["right_child"])]
            count += 2

    def _node(
        self,
        tree: int,
        number: int,
        mode: str,
        feature: int = 0,
        value: float = 0.0,
        left: int = 0,
        right: int = 0,
        missing_left: int = 0,
    ) -> None:
        row = (tree, number, mode, feature, value, left, right, missing_left)
        for items, item in zip(self.attributes.values(), row, strict=False):
            items.append(item)


def _rounded_down(value: float) -> float:
    """Return the largest float32 that is not above `value`."""
    limit = float(np.finfo(np.float32).max)
    nearest = np.float32(max(-limit, min(limit, value)))
    # Compared as Python floats, because numpy would first round `value` to float32.
    return float(np.nextafter(nearest, np.float32(-limit)) if float(nearest) > value else nearest)
