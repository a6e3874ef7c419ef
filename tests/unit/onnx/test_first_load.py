"""The first load of a graph that somebody sent."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from onnx_graphs import value, write

from driftloop_contracts.errors import Rejected
from driftloop_onnx import OnnxModel, first_load


def test_a_graph_that_loads_gives_the_signature_that_replicas_see(scaler: Path) -> None:
    assert first_load(scaler) == OnnxModel(scaler).signature


def test_a_graph_that_takes_all_memory_is_an_error_message(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        [
            helper.make_node("ConstantOfShape", ["size"], ["huge"]),
            helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
            helper.make_node("Add", ["x", "sum"], ["y"]),
        ],
        [value("x", None, 1)],
        [value("y", None, 1)],
        size=np.int64([1 << 36]),
    )
    with pytest.raises(Rejected, match=r"needs more than 256 MiB .*load_memory_bytes"):
        first_load(folder, memory_bytes=256 << 20)


def test_a_graph_that_takes_too_long_is_an_error_message(scaler: Path) -> None:
    with pytest.raises(Rejected, match=r"not loaded within 0.001 seconds .*load_timeout_s"):
        first_load(scaler, timeout_s=0.001)
