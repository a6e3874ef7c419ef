"""A random forest: large trees on random rows and columns, averaged (LightGBM's, written as a graph
like the boosted ones)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from driftloop_retrain.tabular.recipes.gradient_boosting import GradientBoosting
from driftloop_retrain.tabular.tuning.space import Parameters, Space, between, whole

FOREST_PARAMETERS: Mapping[str, Any] = {
    "boosting": "rf", "num_leaves": 255, "min_data_in_leaf": 5, "bagging_fraction": 0.63,
    "bagging_freq": 1, "feature_fraction": 1.0, "feature_fraction_bynode": 0.5,
    "lambda_l2": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class RandomForest(GradientBoosting):
    """See Recipe."""

    name: str = "random-forest"
    parameters: dict[str, Any] = field(default_factory=lambda: {**FOREST_PARAMETERS})
    space: ClassVar[Space] = {
        "num_leaves": whole(31, 1_000, log=True),
        "min_data_in_leaf": whole(1, 100, log=True),
        "feature_fraction_bynode": between(0.2, 1.0),
        "bagging_fraction": between(0.4, 0.9),
    }
    own_parameters: ClassVar[Parameters] = {**FOREST_PARAMETERS}
    starts: ClassVar[tuple[Parameters, ...]] = ()
