"""A fitted feature, and how it is computed: as ONNX nodes, which training runs, too."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_retrain.tabular.features.dates import DATE_COLUMNS, date_nodes
from driftloop_retrain.tabular.features.nodes import Nodes

SEPARATOR = "\x1f"
"""Between the two texts of a cross."""
NO_WORD = "\x01"
"""A word at the end of each text, so that none is without words."""


@dataclass(frozen=True)
class Feature:
    """inputs: the names of one or two. kind: a FeatureRule's. keys: the texts or words that it
    knows. numbers: by kind: standard [mean, std], clip [low, high], bins [edges], date [the newest
    time], tfidf [weights of words], hashed [columns of words]; of a feature of categories a table
    [keys + 1, width], the last row for unknown ones."""

    inputs: tuple[str, ...]
    kind: str
    width: int
    keys: tuple[str, ...] = ()
    numbers: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.float32))

    def nodes(self, raw: Mapping[str, str], nodes: Nodes) -> str:
        """Add its nodes; return the name of its [n, width] float32. raw: the names of the inputs'
        tensors by input."""
        if len(self.inputs) == 2:
            first, second = (nodes.flat(raw[name]) for name in self.inputs)
            text = nodes.constant(np.array([SEPARATOR], dtype=object))
            value = nodes.add("StringConcat", nodes.add("StringConcat", first, text), second)
            return _category(self, value, nodes)
        return KINDS[self.kind](self, nodes.flat(raw[self.inputs[0]]), nodes)


def _column(nodes: Nodes, value: str) -> str:
    return nodes.add("Reshape", value, nodes.constant(np.array([-1, 1], np.int64)))


def _number(nodes: Nodes, value: str) -> str:
    return _column(nodes, nodes.add("Cast", value, to=1))


def _standard(feature: Feature, value: str, nodes: Nodes) -> str:
    mean, spread = (nodes.constant(np.float32(number)) for number in feature.numbers)
    return nodes.add("Div", nodes.add("Sub", _number(nodes, value), mean), spread)


def _clip(feature: Feature, value: str, nodes: Nodes) -> str:
    """By comparisons, which leave missing values missing."""
    low, high = (nodes.constant(np.float32(number)) for number in feature.numbers)
    number = _number(nodes, value)
    number = nodes.add("Where", nodes.add("Less", number, low), low, number)
    return nodes.add("Where", nodes.add("Greater", number, high), high, number)


def _bins(feature: Feature, value: str, nodes: Nodes) -> str:
    """The number of edges at or below the value; 0 also for a missing one."""
    edges = nodes.constant(feature.numbers.astype(np.float32)[None, :])
    above = nodes.add("GreaterOrEqual", _number(nodes, value), edges)
    axis = nodes.constant(np.array([1], np.int64))
    return nodes.add("ReduceSum", nodes.add("Cast", above, to=1), axis, keepdims=1)


def _category(feature: Feature, value: str, nodes: Nodes) -> str:
    code = nodes.add(
        "LabelEncoder",
        value,
        domain="ai.onnx.ml",
        keys_strings=list(feature.keys) or [""],
        values_int64s=list(range(len(feature.keys))) or [0],
        default_int64=len(feature.keys),
    )
    table = nodes.constant(feature.numbers.astype(np.float32))
    return nodes.add("Gather", table, code, axis=0)


def _words(feature: Feature, value: str, nodes: Nodes) -> str:
    lower = nodes.add("StringNormalizer", value, case_change_action="LOWER", locale="C")
    ended = nodes.add("StringConcat", lower, nodes.constant(np.array([f" {NO_WORD}"], object)))
    words, _ = nodes.several("StringSplit", 2, ended)
    weighs = feature.kind == "tfidf"
    columns = range(len(feature.keys)) if weighs else feature.numbers.astype(int).tolist()
    counts = nodes.add(
        "TfIdfVectorizer",
        words,
        mode="TFIDF" if weighs else "TF",
        min_gram_length=1,
        max_gram_length=1,
        max_skip_count=0,
        ngram_counts=[0],
        ngram_indexes=list(columns),
        pool_strings=list(feature.keys),
        **({"weights": feature.numbers.astype(float).tolist()} if weighs else {}),
    )
    if not weighs:
        return counts
    axis = nodes.constant(np.array([1], np.int64))
    length = nodes.add("ReduceL2", counts, axis, keepdims=1)
    least = nodes.constant(np.float32(1e-12))
    return nodes.add("Div", counts, nodes.add("Max", length, least))


def _date(feature: Feature, value: str, nodes: Nodes) -> str:
    return date_nodes(value, float(feature.numbers[0]), nodes)


KINDS: Mapping[str, Callable[[Feature, str, Nodes], str]] = {
    "standard": _standard, "clip": _clip, "bins": _bins, "date": _date, "one_hot": _category,
    "frequency": _category, "target": _category, "tfidf": _words, "hashed": _words,
}  # fmt: skip


def needs_new_operators(features: Sequence[Feature]) -> bool:
    """Whether some take operators on texts, which opset 20 brought."""
    return any(len(each.inputs) == 2 or each.kind in ("tfidf", "hashed") for each in features)


__all__ = ["DATE_COLUMNS", "KINDS", "Feature", "needs_new_operators"]
