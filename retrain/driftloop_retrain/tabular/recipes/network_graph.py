"""Writes the tabular network as ONNX nodes, from the matrix to the scores.

They are generated directly from the weights, because torch's exporter needs seconds to import and
to trace a dozen nodes.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from driftloop_retrain.tabular.recipes.graph import MATRIX, SCORES


class Layout(Protocol):
    """See tabular_network.Layout."""

    @property
    def numeric(self) -> tuple[int, ...]: ...
    @property
    def mean(self) -> NDArray[np.float32]: ...
    @property
    def std(self) -> NDArray[np.float32]: ...
    @property
    def embeddings(self) -> Mapping[int, tuple[int, int]]: ...
    @property
    def center(self) -> float: ...
    @property
    def spread(self) -> float: ...
    @property
    def residual(self) -> bool: ...


class _Body:
    """Collects nodes and constants."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output


def network_body(
    layout: Layout, weights: Mapping[str, NDArray[np.float32]]
) -> tuple[list[Any], list[Any]]:
    """Return (nodes, initializers)."""
    from onnx import TensorProto

    body = _Body()
    parts = []
    if layout.numeric:
        index = body.constant("numeric", np.array(layout.numeric, np.int64))
        raw = body.node("Gather", [MATRIX, index], "raw", axis=1)
        shifted = body.node("Sub", [raw, body.constant("mean", layout.mean)], "shifted")
        scaled = body.node("Div", [shifted, body.constant("std", layout.std)], "scaled")
        missing = body.node("IsNaN", [scaled], "missing")
        zero = body.constant("zero", np.float32(0.0))
        parts.append(body.node("Where", [missing, zero, scaled], "filled"))
        parts.append(body.node("Cast", [missing], "indicator", to=TensorProto.FLOAT))
    one = body.constant("one", np.int64(1))
    for column in layout.embeddings:
        at = body.constant(f"column_{column}", np.int64(column))
        code = body.node("Gather", [MATRIX, at], f"code_{column}", axis=1)
        whole = body.node("Cast", [code], f"whole_{column}", to=TensorProto.INT64)
        row = body.node("Add", [whole, one], f"row_{column}")
        table = body.constant(f"table_{column}", weights[f"tables.{column}.weight"])
        parts.append(body.node("Gather", [table, row], f"embedded_{column}", axis=0))
    hidden = body.node("Concat", parts, "first", axis=1)
    layers = len({name for name in weights if name.startswith("layers.")}) // 2

    def linear(i: int, values: str) -> str:
        weight = body.constant(f"weight_{i}", weights[f"layers.{i}.weight"])
        bias = body.constant(f"bias_{i}", weights[f"layers.{i}.bias"])
        return body.node("Gemm", [values, weight, bias], f"linear_{i}", transB=1)

    if layout.residual:
        hidden = linear(0, hidden)
        for i in range(1, layers - 1, 2):
            inner = body.node("Relu", [linear(i, hidden)], f"inner_{i}")
            hidden = body.node("Add", [hidden, linear(i + 1, inner)], f"sum_{i}")
        hidden = linear(layers - 1, body.node("Relu", [hidden], "last"))
    else:
        for i in range(layers):
            hidden = linear(i, hidden)
            if i < layers - 1:
                hidden = body.node("Relu", [hidden], f"hidden_{i}")
    spread = body.constant("spread", np.float32(layout.spread))
    center = body.constant("center", np.float32(layout.center))
    body.node("Add", [body.node("Mul", [hidden, spread], "spreaded"), center], SCORES)
    return body.nodes, body.constants
