"""Graphs with smaller numbers in place of the weights of large matrices."""

from math import prod
from pathlib import Path
from typing import Any

import numpy as np


def quantised(source: Path, target: Path, least_weights: int) -> bool:
    """Write a graph whose matrices of `least_weights` or more are int8, and whose inputs of them
    are scaled to int8 as they come (onnxruntime's dynamic quantisation). False: it has none, and
    nothing is written."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model, large = _large_matrices(source, least_weights)
    if large:
        quantize_dynamic(
            model,
            str(target),
            nodes_to_quantize=large,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
    return bool(large)


def halved(source: Path, target: Path, least_weights: int) -> bool:
    """Write a graph whose matrices of `least_weights` or more are float16, as what they are
    multiplied with. False: it has none, and nothing is written."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model, large = _large_matrices(source, least_weights)
    graph, nodes = model.graph, []
    known = {each.name: each for each in graph.initializer}
    taken = {name for node in graph.node for name in (*node.input, *node.output)}

    def free(name: str) -> str:
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    for node in graph.node:
        if node.name not in large:
            nodes.append(node)
            continue
        for place, name in enumerate(node.input):
            half = free(f"{name}_half")
            if name in known:
                values = numpy_helper.to_array(known[name]).astype(np.float16)
                graph.initializer.append(numpy_helper.from_array(values, half))
            else:
                nodes.append(helper.make_node("Cast", [name], [half], to=TensorProto.FLOAT16))
            node.input[place] = half
        wide, node.output[0] = node.output[0], free(f"{node.output[0]}_half")
        nodes.append(node)
        nodes.append(helper.make_node("Cast", [node.output[0]], [wide], to=TensorProto.FLOAT))
    used = {name for node in nodes for name in node.input}
    inner = any(each.HasField("g") for node in nodes for each in node.attribute)
    kept = [each for each in graph.initializer if inner or each.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    if large:
        onnx.save(model, str(target))
    return bool(large)


def _large_matrices(source: Path, least_weights: int) -> tuple[Any, list[str]]:
    """The model, and the names of the nodes that multiply with one."""
    import onnx

    model = onnx.load(str(source))
    sizes = {
        each.name: prod(each.dims)
        for each in model.graph.initializer
        if each.data_type == onnx.TensorProto.FLOAT
    }
    large = []
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"
        wide = any(sizes.get(name, 0) >= least_weights for name in node.input)
        if node.op_type in ("MatMul", "Gemm") and wide:
            large.append(node.name)
    return model, large
