"""Graphs with 8-bit integers in place of the weights of large matrices."""

from math import prod
from pathlib import Path


def quantised(source: Path, target: Path, least_weights: int) -> bool:
    """Write a graph whose matrices of `least_weights` or more are int8, and whose inputs of them
    are scaled to int8 as they come (onnxruntime's dynamic quantisation). False: it has none, and
    nothing is written."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(source))
    sizes = {each.name: prod(each.dims) for each in model.graph.initializer}
    large = []
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"
        wide = any(sizes.get(name, 0) >= least_weights for name in node.input)
        if node.op_type in ("MatMul", "Gemm") and wide:
            large.append(node.name)
    if large:
        quantize_dynamic(
            model,
            str(target),
            nodes_to_quantize=large,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
    return bool(large)
