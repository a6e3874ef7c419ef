"""Trees of any library as one node of a graph, in float64.

A converter that writes float64 thresholds as float32 sends rows between the two down the wrong
branch. Here thresholds keep their precision (`TreeEnsemble` of ai.onnx.ml 5), and a library that
compares in float32 gets its input rounded to float32 first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

LEQ, LT, GT, MEMBER = 0, 1, 3, 6


@dataclass(frozen=True, slots=True)
class Leaf:
    """`values`: one for each score it adds to, by the score's number."""

    values: dict[int, float]


@dataclass(frozen=True, slots=True)
class Branch:
    """`mode`: how a row's feature compares with `threshold` (MEMBER: it is one of `members`);
    `then` if it holds. `nan_then`: whether a missing value goes there too."""

    feature: int
    mode: int
    threshold: float
    nan_then: bool
    then: "Branch | Leaf"
    other: "Branch | Leaf"
    members: tuple[float, ...] = ()


def ensemble(trees: Sequence[Branch | Leaf], scores: int, source: str, target: str) -> Any:
    """The node that adds up trees: `source` [n, k] float64 → `target` [n, scores] float64."""
    lists: dict[str, list[Any]] = {
        name: []
        for name in (
            "featureids", "modes", "splits", "missing_value_tracks_true",
            "truenodeids", "trueleafs", "falsenodeids", "falseleafs",
        )
    }  # fmt: skip
    leaf_ids: list[int] = []
    leaf_weights: list[float] = []
    roots = []
    members: list[float] = []

    def place(node: Branch | Leaf) -> tuple[int, bool]:
        if isinstance(node, Leaf):
            ((score, value),) = node.values.items()
            leaf_ids.append(score)
            leaf_weights.append(value)
            return len(leaf_ids) - 1, True
        number = len(lists["modes"])
        row = (node.feature, node.mode, node.threshold, int(node.nan_then), 0, 0, 0, 0)
        for items, item in zip(lists.values(), row, strict=True):
            items.append(item)
        if node.mode == MEMBER:
            members.extend([*node.members, np.nan])  # which ends the set
        pending.append((number, node))
        return number, False

    for part in (part for tree in trees for part in _one_score_each(tree)):
        pending: list[tuple[int, Branch]] = []
        roots.append(place(_branched(part))[0])
        while pending:
            number, node = pending.pop()
            for side, child in (("true", node.then), ("false", node.other)):
                target_id, is_leaf = place(child)
                lists[f"{side}nodeids"][number] = target_id
                lists[f"{side}leafs"][number] = int(is_leaf)
    sets = {}
    if members:
        values = np.array(members, np.float64)
        sets["membership_values"] = numpy_helper.from_array(values, "members")
    return helper.make_node(
        "TreeEnsemble",
        [source],
        [target],
        domain="ai.onnx.ml",
        n_targets=scores,
        aggregate_function=1,  # the sum
        post_transform=0,
        tree_roots=roots,
        leaf_targetids=leaf_ids,
        leaf_weights=numpy_helper.from_array(np.array(leaf_weights, np.float64), "weights"),
        nodes_modes=numpy_helper.from_array(np.array(lists.pop("modes"), np.uint8), "modes"),
        nodes_splits=numpy_helper.from_array(np.array(lists.pop("splits"), np.float64), "splits"),
        **{f"nodes_{name}": values for name, values in lists.items()},
        **sets,
    )


def _branched(tree: Branch | Leaf) -> Branch:
    """A tree has at least one branch."""
    return tree if isinstance(tree, Branch) else Branch(0, LEQ, 0.0, True, tree, tree)


def _one_score_each(tree: Branch | Leaf) -> list[Branch | Leaf]:
    """A tree whose leaves add to several scores, as one tree for each."""
    scores = sorted(_scores_of(tree))
    return [tree] if len(scores) == 1 else [_only(tree, score) for score in scores]


def _scores_of(tree: Branch | Leaf) -> set[int]:
    while isinstance(tree, Branch):
        tree = tree.then
    return set(tree.values)


def _only(tree: Branch | Leaf, score: int) -> Branch | Leaf:
    if isinstance(tree, Leaf):
        return Leaf({score: tree.values[score]})
    then, other = _only(tree.then, score), _only(tree.other, score)
    return replace(tree, then=then, other=other)
