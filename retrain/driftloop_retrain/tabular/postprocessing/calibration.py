"""Calibrations: functions of a model's probabilities that make them agree with frequencies.

`Scaled` is Platt's for two classes, and a temperature with a bias for each class for more: softmax
of a·log p + b. `Isotonic` is the monotone regression on bins of equal size, linear between them, so
that a difference by rounding stays one. Both are a few nodes in a graph.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_retrain.tabular.postprocessing.piecewise import constant, piecewise_nodes

Floats = NDArray[np.float64]
LEAST = 1e-7
"""Probabilities below it count as it."""
RIDGE = 1e-3
"""Pulls parameters towards no calibration, as a share of the mean log loss."""
BINS, LEAST_GAP = 20, 1e-3


@dataclass(frozen=True)
class Scaled:
    """bias [classes]; the first is 0."""

    slope: float
    bias: tuple[float, ...]

    def apply(self, p: NDArray[np.float32]) -> NDArray[np.float32]:
        """p [n, classes] → the same shape."""
        scores = np.log(np.maximum(p, np.float32(LEAST))) * np.float32(self.slope)
        return _softmax(scores + np.array(self.bias, np.float32))

    def nodes(self, source: str, result: str) -> tuple[list[Any], list[Any]]:
        """(nodes, constants) from one tensor to the other."""
        from onnx import helper

        constants = [
            constant("calibration_least", LEAST),
            constant("calibration_slope", self.slope),
            constant("calibration_bias", [self.bias]),
        ]
        steps = (
            ("Max", [source, "calibration_least"], "calibration_kept"),
            ("Log", ["calibration_kept"], "calibration_log"),
            ("Mul", ["calibration_log", "calibration_slope"], "calibration_scaled"),
            ("Add", ["calibration_scaled", "calibration_bias"], "calibration_scores"),
        )
        nodes = [helper.make_node(kind, inputs, [name]) for kind, inputs, name in steps]
        nodes.append(helper.make_node("Softmax", ["calibration_scores"], [result], axis=1))
        return nodes, constants

    def to_dict(self) -> dict[str, Any]:
        return {"form": "scaled", "slope": self.slope, "bias": list(self.bias)}


@dataclass(frozen=True)
class Isotonic:
    """Of two classes. knots, values [k]: of the probability of the second class, ascending."""

    knots: tuple[float, ...]
    values: tuple[float, ...]

    def apply(self, p: NDArray[np.float32]) -> NDArray[np.float32]:
        second = np.interp(p[:, 1], self.knots, self.values).astype(np.float32)
        return np.stack([np.float32(1.0) - second, second], axis=1)

    def nodes(self, source: str, result: str) -> tuple[list[Any], list[Any]]:
        from onnx import helper

        wide, constants = piecewise_nodes(
            "calibration_p", "calibration_yes", self.knots, self.values, "calibration"
        )
        constants += [
            constant("calibration_second", [[0.0], [1.0]]),
            constant("calibration_one", 1.0),
        ]
        both = ["calibration_no", "calibration_yes"]
        return [
            helper.make_node("MatMul", [source, "calibration_second"], ["calibration_p"]),
            *wide,
            helper.make_node("Sub", ["calibration_one", "calibration_yes"], ["calibration_no"]),
            helper.make_node("Concat", both, [result], axis=1),
        ], constants

    def to_dict(self) -> dict[str, Any]:
        return {"form": "isotonic", "knots": list(self.knots), "values": list(self.values)}


Calibration = Scaled | Isotonic


def fit_scaled(p: NDArray[np.float32], place: NDArray[np.int64]) -> Scaled:
    """Fit to p [n, classes] and the place [n] of each label's class, by least log loss."""
    from scipy.optimize import minimize

    rows, classes = p.shape
    logs = np.log(np.maximum(p.astype(np.float64), LEAST))
    truth = np.zeros((rows, classes))
    truth[np.arange(rows), place] = 1.0

    def loss(x: Floats) -> tuple[float, Floats]:
        scores = logs * x[0] + np.concatenate([[0.0], x[1:]])
        scores = scores - scores.max(axis=1, keepdims=True)
        total = np.log(np.exp(scores).sum(axis=1))
        off = np.exp(scores - total[:, None]) - truth
        pull = x - start
        value = float((total - (scores * truth).sum(axis=1)).mean() + RIDGE * (pull**2).sum() / 2)
        slopes = np.concatenate([[(off * logs).sum() / rows], off[:, 1:].mean(axis=0)])
        return value, slopes + RIDGE * pull

    start = np.concatenate([[1.0], np.zeros(classes - 1)])
    bounds = [(1e-2, 1e2), *[(-20.0, 20.0)] * (classes - 1)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Scaled(float(found[0]), (0.0, *map(float, found[1:])))


def fit_isotonic(p: NDArray[np.float32], place: NDArray[np.int64]) -> Isotonic | None:
    """The same of two classes; None if the probabilities are hardly more than one value."""
    order = np.argsort(p[:, 1], kind="stable")
    said, true = p[order, 1].astype(np.float64), (place[order] == 1).astype(np.float64)
    bins = [part for part in np.array_split(np.arange(len(order)), BINS) if len(part)]
    pools: list[tuple[float, float, int]] = []
    for part in bins:
        # A class that no row of a bin has is rare there, not impossible.
        mean = float((true[part].sum() + said[part].mean()) / (len(part) + 1))
        pools.append((float(said[part].mean()), mean, len(part)))
        while len(pools) > 1 and (
            pools[-1][1] <= pools[-2][1] or pools[-1][0] - pools[-2][0] < LEAST_GAP
        ):
            (x, y, n), (u, v, m) = pools.pop(), pools.pop()
            pools.append(((x * n + u * m) / (n + m), (y * n + v * m) / (n + m), n + m))
    if len(pools) < 2:
        return None
    return Isotonic(tuple(x for x, _, _ in pools), tuple(y for _, y, _ in pools))


Fit = Callable[[NDArray[np.float32], NDArray[np.int64]], Calibration | None]


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float32)
