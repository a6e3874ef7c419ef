from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper


@pytest.fixture(scope="session")
def scaler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a graph y = 2 · x over one FP32 column."""
    folder = tmp_path_factory.mktemp("scaler")
    write_graph(folder, 2.0)
    return folder


def write_graph(folder: Path, factor: float) -> None:
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    graph = helper.make_graph(
        [node],
        "scaler",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [1], np.float32([factor]))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
