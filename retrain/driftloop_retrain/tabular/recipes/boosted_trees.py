"""Trees of any library behind an encoding, as one graph.

The graph is written directly from the trees. For a float32 x, a split `x <= t` equals `x <= (t
rounded down to float32)`, so the graph takes exactly the native model's paths. Converters round to
nearest, which sends some rows down another path.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_retrain.tabular.recipes.encoding import Encoding
from driftloop_retrain.tabular.recipes.graph import MATRIX, SCORES, Classes, head, write_graph

if TYPE_CHECKING:
    from driftloop_export.boosted import Boosted
    from driftloop_export.trees import Branch, Leaf


class TreeLibrary(Protocol):
    """What is asked of a library's model of the encoded matrix."""

    def margins(self, model: Any, matrix: NDArray[np.float32]) -> NDArray[Any]:
        """Scores before any link: values [n], log odds [n] of the second of two
        classes, or [n, classes]."""

    def boosted(self, model: Any) -> "Boosted":
        """The trees whose sums are the margins."""


@dataclass(frozen=True)
class BoostedTrees:
    """See FittedModel. booster: the library's model."""

    booster: Any
    library: TreeLibrary
    encoding: Encoding
    classes: Classes
    rounds: int

    @property
    def _is_binary(self) -> bool:
        return self.classes is not None and len(self.classes) == 2

    def predict(self, features: pa.Table) -> dict[str, NDArray[np.generic]]:
        matrix = self.encoding.matrix(features)
        raw = self.library.margins(self.booster, matrix)
        scores = np.asarray(raw).reshape(len(matrix), -1)
        if self._is_binary:
            scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
        return head(scores, self.classes, self.encoding.names)

    def export(self, folder: Path) -> None:
        from onnx import helper

        found = self.library.boosted(self.booster)
        first = 1 if self._is_binary else 0
        ensemble = _Ensemble(first)
        for number, tree in enumerate(found.trees):
            ensemble.add(number, tree)
        node = helper.make_node(
            "TreeEnsembleRegressor",
            [MATRIX],
            [SCORES],
            domain="ai.onnx.ml",
            n_targets=1 if self.classes is None else len(self.classes),
            aggregate_function="SUM",
            post_transform="NONE",
            base_values=[0.0] * first + [float(value) for value in found.base],
            **ensemble.attributes,
        )
        write_graph(folder, self.encoding, [node], [], self.classes)


class _Ensemble:
    """Trees as the parallel lists that ONNX uses."""

    def __init__(self, first: int) -> None:
        """first: the target of the trees' score 0."""
        self._first = first
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

    def add(self, tree: int, root: "Branch | Leaf") -> None:
        """Add a tree, its nodes numbered in the order of traversal."""
        from driftloop_export.trees import Leaf

        waiting, count = [(0, root)], 1
        while waiting:
            number, node = waiting.pop()
            if isinstance(node, Leaf):
                self._node(tree, number, "LEAF")
                self._leaf(tree, number, node.values)
                continue
            mode, threshold = _comparison(node)
            below = (count, count + 1, int(node.nan_then))
            self._node(tree, number, mode, node.feature, threshold, *below)
            waiting += [(count, node.then), (count + 1, node.other)]
            count += 2

    def _node(
        self,
        tree: int,
        number: int,
        mode: str,
        feature: int = 0,
        value: float = 0.0,
        then: int = 0,
        other: int = 0,
        missing_then: int = 0,
    ) -> None:
        row = (tree, number, mode, feature, value, then, other, missing_then)
        for items, item in zip(self.attributes.values(), row, strict=False):
            items.append(item)

    def _leaf(self, tree: int, number: int, values: dict[int, float]) -> None:
        names = ("target_treeids", "target_nodeids", "target_ids", "target_weights")
        for score, value in values.items():
            row = (tree, number, self._first + score, value)
            for name, item in zip(names, row, strict=True):
                self.attributes[name].append(item)


def _comparison(branch: "Branch") -> tuple[str, float]:
    """ONNX's name for it, and the threshold as a float32 that parts all float32 values alike.
    XGBoost's and CatBoost's thresholds are float32 already."""
    from driftloop_export.trees import GT, LEQ, LT

    modes = {LEQ: "BRANCH_LEQ", LT: "BRANCH_LT", GT: "BRANCH_GT"}
    rounded = _rounded_down(branch.threshold) if branch.mode == LEQ else branch.threshold
    return modes[branch.mode], rounded


def _rounded_down(value: float) -> float:
    """Return the largest float32 that is not above `value`."""
    limit = float(np.finfo(np.float32).max)
    nearest = np.float32(max(-limit, min(limit, value)))
    # Compared as Python floats, because numpy would first round `value` to float32.
    return float(np.nextafter(nearest, np.float32(-limit)) if float(nearest) > value else nearest)
