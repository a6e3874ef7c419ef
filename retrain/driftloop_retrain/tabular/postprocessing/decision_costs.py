"""The costs by which a model's label is decided: the answer whose expected cost is least under the
model's probabilities. For two classes that is a threshold."""

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.model import ModelSpec, class_name
from driftloop_contracts.objective import Objective
from driftloop_evaluation.class_answers import binary_classes

Costs = NDArray[np.float64]


def costs_of(
    spec: ModelSpec, classes: NDArray[np.generic], place: NDArray[np.int64]
) -> Costs | None:
    """[label, answer], the dearest 1; None if the likeliest class is the best answer, or the label
    is not what the objective judges. place [n]: of the class of each label that is known."""
    said = spec.objective
    if said is None or said.output not in (None, spec.output):
        return None
    names = [class_name(value) for value in classes.tolist()]
    if said.metric == "balanced_error":
        counts = np.bincount(place, minlength=len(names)).astype(np.float64)
        weight = 1.0 / np.maximum(counts, 1.0)
        return _scaled(np.outer(weight, np.ones(len(names))) * (1.0 - np.eye(len(names))))
    if said.metric != "cost":
        return None
    if said.costs is not None:
        return _scaled(_declared(said.costs, names))
    positive = _positive(spec, said, names)
    if len(names) != 2 or positive not in names:
        return None
    costs = np.zeros((2, 2))
    yes = names.index(positive)
    costs[yes, 1 - yes] = said.false_negative or 0.0
    costs[1 - yes, yes] = said.false_positive or 0.0
    return _scaled(costs)


def threshold_of(costs: Costs) -> float | None:
    """Of two classes: the probability of the second class from which on it is the answer."""
    if len(costs) != 2:
        return None
    missed, alarm = costs[1, 0] - costs[1, 1], costs[0, 1] - costs[0, 0]
    return float(alarm / (missed + alarm)) if missed + alarm > 0 else None


def _positive(spec: ModelSpec, said: Objective, names: list[str]) -> str:
    if isinstance(said.positive, bool) and class_name(said.positive) in names:
        return class_name(said.positive)
    return binary_classes(spec, said)[1]


def _declared(costs: dict[str, dict[str, float]], names: list[str]) -> Costs:
    """A class that `costs` does not name costs the dearest, as in the objective."""
    dearest = max(cost for row in costs.values() for cost in row.values())
    return np.array(
        [
            [
                costs.get(label, {}).get(answer, 0.0 if label == answer else dearest)
                for answer in names
            ]
            for label in names
        ]
    )


def _scaled(costs: Costs) -> Costs | None:
    """None if all errors cost the same."""
    wrong = costs[~np.eye(len(costs), dtype=bool)]
    right = np.diag(costs)
    if np.ptp(wrong) == 0 and np.ptp(right) == 0 and wrong[0] > right[0]:
        return None
    return np.asarray(costs / costs.max())
