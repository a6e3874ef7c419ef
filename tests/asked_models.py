"""The graphs that clients ask: every datatype, several tensors, texts, and two versions."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

TYPES = {
    "BOOL": TensorProto.BOOL, "UINT8": TensorProto.UINT8, "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32, "UINT64": TensorProto.UINT64, "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16, "INT32": TensorProto.INT32, "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16, "FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}  # fmt: skip


def identity(folder: Path) -> Path:
    """For each datatype D an input D of two columns, and the same as output `D.out`."""
    return _copies(folder / "identity.onnx", TYPES)


def typed(folder: Path) -> Path:
    """The identity of what gRPC can send typed: all but FP16."""
    return _copies(folder / "typed.onnx", {n: k for n, k in TYPES.items() if n != "FP16"})


def _copies(path: Path, types: dict[str, int]) -> Path:
    return _save(
        path,
        [helper.make_node("Identity", [name], [f"{name}.out"]) for name in types],
        [helper.make_tensor_value_info(name, kind, [None, 2]) for name, kind in types.items()],
        [helper.make_tensor_value_info(f"{n}.out", k, [None, 2]) for n, k in types.items()],
    )


def pair(folder: Path) -> Path:
    """sum = a + b and product = a · b, over FP32 columns a and b."""
    column = [None, 1]
    return _save(
        folder / "pair.onnx",
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Mul", ["a", "b"], ["product"]),
        ],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, column) for n in ("a", "b")],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, column) for n in ("sum", "product")],
    )


def words(folder: Path) -> Path:
    """A word for an INT64 digit 1 to 3; "viele" for any other number."""
    node = helper.make_node(
        "LabelEncoder",
        ["digit"],
        ["word"],
        domain="ai.onnx.ml",
        keys_int64s=[1, 2, 3],
        values_strings=["eins", "zwei", "drüben"],
        default_string="viele",
    )
    return _save(
        folder / "words.onnx",
        [node],
        [helper.make_tensor_value_info("digit", TensorProto.INT64, [None, 1])],
        [helper.make_tensor_value_info("word", TensorProto.STRING, [None, 1])],
    )


def scaler(folder: Path, factor: float) -> Path:
    """y = factor · x over one FP32 column."""
    return _save(
        folder / f"scaler{factor:.0f}.onnx",
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [1], np.float32([factor]))],
    )


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: list[onnx.TensorProto] | None = None,
) -> Path:
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, constants or [])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path
