"""A function that is linear between knots and constant outside, as nodes of a graph."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def piecewise_nodes(
    source: str, result: str, knots: Sequence[float], values: Sequence[float], prefix: str
) -> tuple[list[Any], list[Any]]:
    """(nodes, constants) from one tensor [n, 1] to the other, both float32: the sum over all pieces
    of slope · (how far the input reaches into the piece). knots: at least two, ascending. prefix:
    of the names between."""
    from onnx import helper

    x, y = np.array(knots), np.array(values)
    name = f"{prefix}_{{}}".format
    constants = [
        constant(name("knots"), x[None, :-1]),
        constant(name("widths"), np.diff(x)[None, :]),
        constant(name("zero"), 0.0),
        constant(name("slopes"), (np.diff(y) / np.diff(x))[:, None]),
        constant(name("first"), y[0]),
    ]
    steps = (
        ("Sub", [source, name("knots")], name("past")),
        ("Max", [name("past"), name("zero")], name("into")),
        ("Min", [name("into"), name("widths")], name("reach")),
        ("MatMul", [name("reach"), name("slopes")], name("rise")),
        ("Add", [name("rise"), name("first")], result),
    )
    return [helper.make_node(kind, inputs, [to]) for kind, inputs, to in steps], constants


def constant(name: str, value: Any) -> Any:
    """float32."""
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray(value, np.float32), name)
