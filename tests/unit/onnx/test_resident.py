from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from driftloop_onnx.resident import resident_bytes

MEGABYTE = 1 << 20


def with_weights(folder: Path, megabytes: int) -> Path:
    rows = megabytes * MEGABYTE // 4 // 1_024
    weights = np.random.default_rng(0).random((1_024, rows), dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1_024])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", rows])],
        [numpy_helper.from_array(weights, "w")],
    )
    folder.mkdir()
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "model.onnx")
    return folder


def test_a_graph_takes_the_memory_of_its_weights(tmp_path: Path) -> None:
    small, large = with_weights(tmp_path / "small", 1), with_weights(tmp_path / "large", 48)
    (tmp_path / "none").mkdir()
    first, second, none = resident_bytes([large, small, tmp_path / "none"])
    assert first is not None
    assert second is not None
    assert 40 * MEGABYTE < first < 200 * MEGABYTE
    assert second < first / 2
    assert none is None
