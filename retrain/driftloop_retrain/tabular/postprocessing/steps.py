"""The steps after a model's own answers, in numpy and as nodes of a graph."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.postprocessing.calibration import Calibration
from driftloop_retrain.tabular.postprocessing.decision_costs import Costs, threshold_of

RAW = "uncalibrated_probabilities"


@dataclass(frozen=True)
class Steps:
    """Of classes [k], ascending. costs [k, k]: by label and answer; None: the likeliest class is
    the answer."""

    classes: NDArray[np.generic]
    calibration: Calibration | None = None
    costs: Costs | None = None

    @property
    def none(self) -> bool:
        return self.calibration is None and self.costs is None

    def apply(self, outputs: Outputs) -> dict[str, NDArray[np.generic]]:
        """Outputs with a label and probabilities [n, k] → the same, decided anew."""
        if self.none:
            return dict(outputs)
        label, name = names_in(outputs)
        p = np.asarray(outputs[name], np.float32)
        if self.calibration is not None:
            p = self.calibration.apply(p)
        best = p.argmax(axis=1) if self.costs is None else self._expected(p).argmin(axis=1)
        decided = self.classes[best].astype(outputs[label].dtype).reshape(outputs[label].shape)
        return {**outputs, name: p, label: decided}

    def tied(self, outputs: Outputs, tolerance: float) -> NDArray[np.bool_]:
        """[n]: the rows whose answer a difference by `tolerance` could change."""
        p = np.asarray(outputs[names_in(outputs)[1]], np.float32)
        scores = np.sort(-p if self.costs is None else self._expected(p), axis=1)
        return np.asarray(scores[:, 1] - scores[:, 0] <= 2 * tolerance)

    def _expected(self, p: NDArray[np.float32]) -> NDArray[np.float32]:
        assert self.costs is not None
        return np.asarray(p @ self.costs.astype(np.float32), np.float32)

    def nodes(self, kind: int) -> tuple[list[Any], list[Any]]:
        """(nodes, constants) from RAW to `label` and `probabilities`. kind: the label's type in
        ONNX's TensorProto."""
        from onnx import TensorProto, helper, numpy_helper

        nodes: list[Any] = []
        constants: list[Any] = []
        if self.calibration is None:
            nodes.append(helper.make_node("Identity", [RAW], ["probabilities"]))
        else:
            nodes, constants = self.calibration.nodes(RAW, "probabilities")
        if self.costs is None:
            choose = ("ArgMax", "probabilities")
        else:
            costs = self.costs.astype(np.float32)
            constants.append(numpy_helper.from_array(costs, "decision_costs"))
            inputs = ["probabilities", "decision_costs"]
            nodes.append(helper.make_node("MatMul", inputs, ["expected_costs"]))
            choose = ("ArgMin", "expected_costs")
        text = kind == TensorProto.STRING
        values = [str(v).encode() for v in self.classes] if text else self.classes
        constants.append(helper.make_tensor("decision_classes", kind, [len(values)], values))
        nodes += [
            helper.make_node(choose[0], [choose[1]], ["decision_best"], axis=1, keepdims=0),
            helper.make_node("Gather", ["decision_classes", "decision_best"], ["label"], axis=0),
        ]
        return nodes, constants

    def to_dict(self) -> dict[str, Any]:
        return {
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "costs": None if self.costs is None else self.costs.tolist(),
            "threshold": None if self.costs is None else threshold_of(self.costs),
        }


def names_in(outputs: Outputs) -> tuple[str, str]:
    """The names of label and probabilities, which give way to inputs of the same name. Raises
    StopIteration if one is missing."""
    label = next(name for name in outputs if name.rstrip("_") == "label")
    return label, next(name for name in outputs if name.rstrip("_") == "probabilities")
