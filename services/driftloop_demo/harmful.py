"""A recipe that trains a harmful model. The demo forces it past the gate, so that the shadow must
detect it."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.recipes import FitContext, FittedModel
from driftloop_retrain.tabular.recipes.gradient_boosting import GradientBoosting

SHARE = 0.15


class Harmful:
    """Gradient boosting on labels that are wrong where the first number is high. The model is sound
    elsewhere; live accuracy falls by a dozen points."""

    name = "harmful"

    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> FittedModel:
        if context.classes is None:
            raise Rejected("the harmful recipe only supports classification")
        held = None if validation is None else _flipped(validation, context.classes)
        return GradientBoosting().fit(_flipped(train, context.classes), held, context)


def _flipped(data: Dataset, classes: NDArray[np.generic]) -> Dataset:
    """Replace each label in the top SHARE of the first floating-point column by the next class."""
    for column in data.features.columns:
        if pa.types.is_floating(column.type):
            values = np.nan_to_num(np.asarray(column.to_numpy(), np.float64))
            high = values > np.quantile(values, 1.0 - SHARE)
            codes = (np.searchsorted(classes, data.labels) + high) % len(classes)
            return replace(data, labels=classes[codes])
    raise Rejected("the harmful recipe needs a floating-point column")
