"""Rare classes weigh more, as far as validation by the objective says that it helps."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.tuning.space import Parameters, Space, one_of

BALANCE = "class_balance"
"""A parameter of each recipe that is searched. 0: rows weigh as they are; 1: all classes weigh the
same; between: by that power."""
SHARES = one_of(0.0, 0.5, 1.0)


def with_balance(spaces: Mapping[str, Space]) -> dict[str, Space]:
    """The spaces with the parameter; one that has it already keeps its own."""
    return {name: {BALANCE: SHARES, **space} for name, space in spaces.items()}


def balanced(train: Dataset, parameters: Parameters) -> tuple[Dataset, Parameters]:
    """The rows weighted as the parameters say, and the parameters that are left for the recipe."""
    power = float(parameters.get(BALANCE, 0.0))
    left = {name: value for name, value in parameters.items() if name != BALANCE}
    if not power:
        return train, left
    _, classes, counts = np.unique(train.labels, return_inverse=True, return_counts=True)
    weights = train.weights * (train.rows / (len(counts) * counts[classes])) ** power
    return replace(train, weights=weights / weights.mean()), left
