"""Conformal sets of classes: those whose probability reaches a threshold, chosen so that a share of
the labels lies in the set, whatever the model is (Sadinle et al., 2019). The likeliest class always
does.
"""

from collections.abc import Collection
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.graph_names import PREDICTION_SET, output_name
from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.postprocessing.steps import names_in

MIN_ROWS = 200


@dataclass(frozen=True)
class PredictionSet:
    """coverage: of the labels. threshold: of a class's probability. name: of the output, which
    gives way to an input of the same name."""

    coverage: float
    threshold: float
    name: str = PREDICTION_SET

    @property
    def none(self) -> bool:
        return False

    def apply(self, outputs: Outputs) -> dict[str, NDArray[np.generic]]:
        """Outputs with probabilities [n, k] → the same with the set, bool [n, k]."""
        p = self._probabilities(outputs)
        chosen = (p >= np.float32(self.threshold)) | (p >= p.max(axis=1, keepdims=True))
        return {**outputs, self.name: chosen}

    def tied(self, outputs: Outputs, tolerance: float) -> NDArray[np.bool_]:
        """[n]: the rows whose set a difference by `tolerance` could change."""
        p = self._probabilities(outputs)
        near = np.abs(p - self.threshold) <= tolerance
        # Classes that are as likely but for rounding may all be in, or only one of them.
        second = np.sort(p, axis=1)[:, -2]
        return np.asarray(near.any(axis=1) | (p.max(axis=1) - second <= 2 * tolerance))

    @staticmethod
    def _probabilities(outputs: Outputs) -> NDArray[np.float32]:
        return np.asarray(outputs[names_in(outputs)[1]], np.float32)

    def nodes(self, source: str) -> tuple[list[Any], list[Any]]:
        """(nodes, constants) from the probabilities to PREDICTION_SET."""
        from onnx import helper, numpy_helper

        make = helper.make_node
        constants = [
            numpy_helper.from_array(np.float32(self.threshold), "set_threshold"),
            numpy_helper.from_array(np.array([1], np.int64), "set_count"),
        ]
        return [
            make("TopK", [source, "set_count"], ["set_most", "set_place"], axis=1),
            make("GreaterOrEqual", [source, "set_threshold"], ["set_likely"]),
            make("GreaterOrEqual", [source, "set_most"], ["set_likeliest"]),
            make("Or", ["set_likely", "set_likeliest"], [PREDICTION_SET]),
        ], constants

    def to_dict(self) -> dict[str, Any]:
        return {"prediction_set": self.coverage, "set_threshold": self.threshold}


def fit_prediction_set(
    p: NDArray[np.floating[Any]],
    place: NDArray[np.int64],
    coverage: float,
    columns: Collection[str] = (),
) -> PredictionSet | None:
    """Fit to probabilities [n, k] of rows that the model was not trained on, and the places [n] of
    their labels' classes; None with too few of them. columns: the names of the inputs."""
    rank = len(p) + 1 - ceil((len(p) + 1) * coverage)
    if len(p) < MIN_ROWS or rank < 1:
        return None
    threshold = float(np.sort(p[np.arange(len(p)), place].astype(np.float32))[rank - 1])
    return PredictionSet(coverage, threshold, output_name(PREDICTION_SET, columns))
