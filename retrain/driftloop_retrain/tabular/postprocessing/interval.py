"""Conformal intervals around a value: as wide as errors are at such values, so that a share of the
labels lies inside, whatever the model is (Lei et al., 2018, with a scale of the errors).

The scale is the mean absolute error on bins of the answered value, linear between them. The factor
on it is an order statistic of rows that the scale was not fitted on.
"""

from collections.abc import Collection
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.graph_names import output_name
from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.postprocessing.piecewise import piecewise_nodes

MIN_ROWS, MAX_BINS, ROWS_IN_BIN = 200, 10, 100
LEAST_SCALE = 0.1
"""Of the mean error, in bins with a smaller one."""
ENDS = ("lower", "upper")


@dataclass(frozen=True)
class Interval:
    """coverage: of the labels. knots, halves [k >= 2]: half the width at values, ascending. names:
    of the outputs with the ends, which give way to inputs of the same name."""

    coverage: float
    knots: tuple[float, ...]
    halves: tuple[float, ...]
    names: tuple[str, str] = ENDS

    @property
    def none(self) -> bool:
        return False

    def apply(self, outputs: Outputs) -> dict[str, NDArray[np.generic]]:
        """Outputs with a value [n] → the same with both ends [n]."""
        name = value_in(outputs)
        value = outputs[name].reshape(-1).astype(np.float32)
        half = np.interp(value, self.knots, self.halves).astype(np.float32)
        return {**outputs, self.names[0]: value - half, self.names[1]: value + half}

    def tied(self, outputs: Outputs, tolerance: float) -> NDArray[np.bool_]:
        del tolerance
        return np.zeros(len(outputs[value_in(outputs)]), dtype=bool)

    def nodes(self, source: str) -> tuple[list[Any], list[Any]]:
        """(nodes, constants) from the value to ENDS."""
        from onnx import TensorProto, helper, numpy_helper

        make = helper.make_node
        wide, constants = piecewise_nodes(
            "interval_column", "interval_half", self.knots, self.halves, "interval"
        )
        constants += [
            numpy_helper.from_array(np.array([-1, 1], np.int64), "interval_tall"),
            numpy_helper.from_array(np.array([-1], np.int64), "interval_flat"),
        ]
        return [
            make("Cast", [source], ["interval_value"], to=TensorProto.FLOAT),
            make("Reshape", ["interval_value", "interval_tall"], ["interval_column"]),
            *wide,
            make("Sub", ["interval_column", "interval_half"], ["interval_low"]),
            make("Add", ["interval_column", "interval_half"], ["interval_high"]),
            make("Reshape", ["interval_low", "interval_flat"], [ENDS[0]]),
            make("Reshape", ["interval_high", "interval_flat"], [ENDS[1]]),
        ], constants

    def to_dict(self) -> dict[str, Any]:
        return {"interval": self.coverage, "knots": list(self.knots), "halves": list(self.halves)}


def fit_interval(
    values: NDArray[np.floating[Any]],
    labels: NDArray[np.generic],
    coverage: float,
    columns: Collection[str] = (),
) -> Interval | None:
    """Fit to answers and labels [n] of rows that the model was not trained on, oldest first; None
    with too few of them. columns: the names of the inputs."""
    if len(values) < MIN_ROWS:
        return None
    middle = len(values) // 2
    errors = np.abs(values.astype(np.float64) - labels.astype(np.float64))
    knots, scale = _scale(values[:middle].astype(np.float64), errors[:middle])
    scores = np.sort(errors[middle:] / np.interp(values[middle:], knots, scale))
    rank = ceil((len(scores) + 1) * coverage)
    if rank > len(scores):
        return None
    halves = scores[rank - 1] * scale
    names = output_name(ENDS[0], columns), output_name(ENDS[1], columns)
    return Interval(coverage, tuple(map(float, knots)), tuple(map(float, halves)), names)


def _scale(
    values: NDArray[np.float64], errors: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    order = np.argsort(values, kind="stable")
    bins = np.array_split(order, max(1, min(MAX_BINS, len(order) // ROWS_IN_BIN)))
    floor = LEAST_SCALE * float(errors.mean()) or 1e-9
    knots = np.array([values[part].mean() for part in bins])
    scale = np.array([max(floor, errors[part].mean()) for part in bins])
    kept = np.append(True, np.diff(knots) > 1e-6 * max(1.0, float(np.abs(knots).max())))
    knots, scale = knots[kept], scale[kept]
    if len(knots) == 1:
        return np.array([knots[0], knots[0] + 1.0]), np.repeat(scale, 2)
    return knots, scale


def value_in(outputs: Outputs) -> str:
    return next(name for name in outputs if name.rstrip("_") == "value")
