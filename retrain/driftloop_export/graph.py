"""The graph around a converted model: raw columns in, `label`, `probabilities` or `value` out."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from driftloop_contracts.graph_names import output_name
from driftloop_contracts.signature import TensorSpec
from driftloop_export.port import MATRIX, Body, NotExportable, Outputs

IR_VERSION = 10
"""An older one than onnx's newest: more runtimes load it."""
_ELEMENTS = {
    "BYTES": "STRING", "FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE",
}  # fmt: skip


def assembled(body: Body, inputs: Sequence[TensorSpec], answers: Outputs) -> Any:
    """The ONNX model whose inputs are `inputs`, and whose outputs have the names and shapes of
    `answers`. Raises NotExportable if the body takes other columns."""
    columns = [tensor.name for tensor in inputs]
    inputs = body.inputs or inputs
    prefix = free_prefix([*columns, *(tensor.name for tensor in inputs)])
    model = compose.add_prefix(body.model, prefix)
    graph = model.graph
    wanted = {node.name: node.type.tensor_type.elem_type for node in graph.input}
    targets = {t.name: prefix + body.renamed.get(t.name, t.name) for t in inputs}
    front = _front(inputs, wanted, targets, prefix)
    back, outputs, constants = _back(body, answers, columns, prefix)
    nodes = [*front, *graph.node, *back]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.extend(_value_info(tensor) for tensor in inputs)
    graph.output.extend(outputs)
    graph.initializer.extend(constants)
    del graph.value_info[:]  # of tensors before the casts
    model.ir_version = min(model.ir_version, IR_VERSION)
    helper.set_model_props(model, dict(body.metadata))
    onnx.checker.check_model(model)
    return model


def _front(
    inputs: Sequence[TensorSpec], wanted: dict[str, int], targets: dict[str, str], prefix: str
) -> list[Any]:
    """From the raw columns to what the body takes. targets: the body's input of each column."""
    if set(wanted) == {prefix + MATRIX}:
        ((matrix, kind),) = wanted.items()
        parts = [f"{prefix}column_{number}" for number in range(len(inputs))]
        casts = [_cast(t, part, kind) for t, part in zip(inputs, parts, strict=True)]
        return [*casts, helper.make_node("Concat", parts, [matrix], axis=1)]
    if unknown := set(wanted) - set(targets.values()):
        raise NotExportable(
            f"the converted model takes {sorted(unknown)[0].removeprefix(prefix)!r}, which is no "
            "column of the sample"
        )
    return [
        _cast(tensor, targets[tensor.name], wanted[targets[tensor.name]])
        for tensor in inputs
        if targets[tensor.name] in wanted
    ]


def _cast(tensor: TensorSpec, target: str, kind: int) -> Any:
    if (tensor.datatype == "BYTES") != (kind == TensorProto.STRING):
        raise NotExportable(
            f"the model takes the column {tensor.name!r} as another type than the sample's "
            f"{tensor.datatype}: encode texts inside the model, by a step of its pipeline"
        )
    if element_of(tensor.datatype) == kind:
        return helper.make_node("Identity", [tensor.name], [target])
    return helper.make_node("Cast", [tensor.name], [target], to=kind)


def _back(
    body: Body, answers: Outputs, inputs: Sequence[str], prefix: str
) -> tuple[list[Any], list[Any], list[Any]]:
    flat = f"{prefix}flat"
    nodes, outputs = [], []
    for name, values in answers.items():
        source, target = prefix + body.outputs[name], output_name(name, inputs)
        kind, shape = _kind_of(values), ["n", *values.shape[1:]]
        cast = f"{source}_as_{name}"
        same = kind == TensorProto.STRING
        nodes.append(
            helper.make_node("Identity", [source], [cast])
            if same
            else helper.make_node("Cast", [source], [cast], to=kind)
        )
        nodes.append(
            helper.make_node("Reshape", [cast, flat], [target])
            if values.ndim == 1
            else helper.make_node("Identity", [cast], [target])
        )
        outputs.append(helper.make_tensor_value_info(target, kind, shape))
    return nodes, outputs, [helper.make_tensor(flat, TensorProto.INT64, [1], [-1])]


def _kind_of(values: Any) -> int:
    if values.dtype == object:
        return int(TensorProto.STRING)
    return int(TensorProto.INT64 if values.dtype.kind == "i" else TensorProto.FLOAT)


def free_prefix(names: Iterable[str]) -> str:
    """One that no name of the user's begins with."""
    prefix, names = "model_", list(names)
    while any(name.startswith(prefix) for name in names):
        prefix += "_"
    return prefix


def element_of(datatype: str) -> int:
    """ONNX's number of a datatype."""
    return int(getattr(TensorProto, _ELEMENTS.get(datatype, datatype)))


def _value_info(tensor: TensorSpec) -> Any:
    free = (f"free_{i}" if size < 0 else size for i, size in enumerate(tensor.row_shape or ()))
    return helper.make_tensor_value_info(tensor.name, element_of(tensor.datatype), ["n", *free])


def constant(name: str, values: Any) -> Any:
    """An initializer from a numpy array."""
    return numpy_helper.from_array(np.asarray(values), name)
