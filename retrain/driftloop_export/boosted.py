"""Boosted trees of any library as a graph: the sum of the trees, then the link of the objective."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from driftloop_contracts.kind import Task
from driftloop_export.graph import constant
from driftloop_export.port import MATRIX, Body, Outputs
from driftloop_export.sample import Sample
from driftloop_export.trees import Branch, Leaf, ensemble

Link = Literal["identity", "sigmoid", "softmax", "exp"]
OPSETS = {"": 18, "ai.onnx.ml": 5}


@dataclass(frozen=True)
class Boosted:
    """trees: each leaf adds to scores. base: what each score starts at. link: from scores to
    probabilities or the value. classes: of a classifier, in the order of its scores; two classes
    have one score, that of the second. float32: the library rounds features to float32. categories:
    by column number, the values that are replaced by their positions."""

    trees: Sequence[Branch | Leaf]
    base: Sequence[float]
    link: Link
    columns: int
    classes: NDArray[np.generic] | None = None
    float32: bool = False
    factor: float = 1.0
    zero_is_missing: bool = False
    categories: Mapping[int, Sequence[Any]] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        return "regression" if self.classes is None else "classification"

    def body(self, sample: Sample) -> Body:
        """The graph over the sample's columns."""
        matrix = helper.make_tensor_value_info(MATRIX, TensorProto.DOUBLE, ["n", self.columns])
        inputs: list[Any] = [matrix]
        nodes: list[Any] = []
        if self.categories:
            inputs, nodes = self._columns(sample)
        nodes += self.nodes(MATRIX)
        graph = helper.make_graph(nodes, "driftloop", inputs, self.infos(), self.constants())
        opsets = [helper.make_opsetid(domain, number) for domain, number in OPSETS.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return Body(model, {name: name for name in self.outputs})

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("value",) if self.classes is None else ("label", "probabilities")

    def infos(self) -> list[Any]:
        """The outputs as a graph lists them."""
        number = ("label", TensorProto.STRING if self._texts else TensorProto.INT64, ["n"])
        if self.classes is None:
            return [helper.make_tensor_value_info("value", TensorProto.DOUBLE, ["n", 1])]
        whole = ("probabilities", TensorProto.DOUBLE, ["n", len(self.classes)])
        return [helper.make_tensor_value_info(*info) for info in (number, whole)]

    @property
    def _texts(self) -> bool:
        return self.classes is not None and self.classes.dtype == object

    def constants(self) -> list[Any]:
        found = [constant("base", np.array(self.base, np.float64))]
        found.append(constant("factor", np.array(self.factor, np.float64)))
        if self.zero_is_missing:
            found += [constant("zero", np.float64(0.0)), constant("nan", np.float64("nan"))]
        if self.classes is not None:
            texts = self._texts
            found += [
                helper.make_tensor(
                    "classes",
                    TensorProto.STRING if texts else TensorProto.INT64,
                    [len(self.classes)],
                    [str(c).encode() for c in self.classes] if texts else self.classes,
                ),
                constant("half", np.array(0.5, np.float32 if self.float32 else np.float64)),
                constant("one", np.array(1.0, np.float64)),
            ]
        return found

    def nodes(self, source: str) -> list[Any]:
        """From `source` [n, columns] float64 to the outputs."""
        nodes = []
        if self.float32:
            nodes = [
                helper.make_node("Cast", [source], ["rounded"], to=TensorProto.FLOAT),
                helper.make_node("Cast", ["rounded"], ["exact"], to=TensorProto.DOUBLE),
            ]
            source = "exact"
        if self.zero_is_missing:
            nodes += [
                helper.make_node("Equal", [source, "zero"], ["is_zero"]),
                helper.make_node("Where", ["is_zero", "nan", source], ["given"]),
            ]
            source = "given"
        nodes += [
            ensemble(self.trees, len(self.base), source, "sums"),
            helper.make_node("Add", ["sums", "base"], ["scores"]),
            helper.make_node("Mul", ["scores", "factor"], ["logits"]),
        ]
        linked = {"sigmoid": "Sigmoid", "exp": "Exp", "identity": "Identity"}
        if self.link == "softmax":
            nodes.append(helper.make_node("Softmax", ["logits"], ["linked"], axis=1))
        else:
            nodes.append(helper.make_node(linked[self.link], ["logits"], ["linked"]))
        if self.classes is None:
            return [*nodes, helper.make_node("Identity", ["linked"], ["value"])]
        return nodes + (self._two() if len(self.base) == 1 else self._many())

    def _two(self) -> list[Any]:
        """Two classes: the second if its probability is above one half."""
        kind = TensorProto.FLOAT if self.float32 else TensorProto.DOUBLE
        return [
            helper.make_node("Sub", ["one", "linked"], ["rest"]),
            helper.make_node("Concat", ["rest", "linked"], ["probabilities"], axis=1),
            helper.make_node("Cast", ["linked"], ["compared"], to=kind),
            helper.make_node("Greater", ["compared", "half"], ["is_second"]),
            helper.make_node("Cast", ["is_second"], ["best"], to=TensorProto.INT64),
            helper.make_node("Gather", ["classes", "best"], ["label"], axis=0),
        ]

    def _many(self) -> list[Any]:
        return [
            helper.make_node("Identity", ["linked"], ["probabilities"]),
            helper.make_node("ArgMax", ["linked"], ["best"], axis=1, keepdims=0),
            helper.make_node("Gather", ["classes", "best"], ["label"], axis=0),
        ]

    def _columns(self, sample: Sample) -> tuple[list[Any], list[Any]]:
        """Inputs for the columns, and the nodes that put them beside each other."""
        inputs, nodes, parts = [], [], []
        for number, name in enumerate(sample.columns):
            part, known = f"column_{number}", self.categories.get(number)
            parts.append(part)
            if known is None:
                kind = TensorProto.DOUBLE
                nodes.append(helper.make_node("Identity", [name], [part]))
            else:
                texts = isinstance(known[0], str) if len(known) else True
                kind = TensorProto.STRING if texts else TensorProto.INT64
                keys = {"keys_strings" if texts else "keys_int64s": list(known)}
                nodes += [
                    helper.make_node(
                        "LabelEncoder",
                        [name],
                        [f"code_{number}"],
                        domain="ai.onnx.ml",
                        values_floats=[float(code) for code in range(len(known))],
                        default_float=float("nan"),
                        **keys,
                    ),
                    helper.make_node("Cast", [f"code_{number}"], [part], to=TensorProto.DOUBLE),
                ]
            inputs.append(helper.make_tensor_value_info(name, kind, ["n", 1]))
        return inputs, [*nodes, helper.make_node("Concat", parts, [MATRIX], axis=1)]


def answers_of(
    scores: NDArray[Any], classes: NDArray[np.generic] | None, labels: Any = None
) -> Outputs:
    """Outputs from what a library predicts: values [n], or probabilities [n] of the second class or
    [n, classes]. `labels`: those that it says itself."""
    if classes is None:
        return {"value": np.asarray(scores, np.float64).reshape(-1)}
    whole = np.asarray(scores)
    if whole.ndim == 1:
        chosen = (whole > 0.5).astype(np.int64)
        whole = np.stack([1.0 - whole, whole], axis=1)
    else:
        chosen = whole.argmax(axis=1)
    found = classes[chosen] if labels is None else np.asarray(labels).reshape(-1)
    return {"label": found.astype(classes.dtype), "probabilities": whole}
