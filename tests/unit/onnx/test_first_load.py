"""The first load of a graph that somebody sent."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from onnx_graphs import value, write

from driftloop_contracts.errors import Rejected
from driftloop_onnx import OnnxModel, first_load
from driftloop_onnx.first_load import signature_from


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


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_graph_that_crashes_the_runtime_is_an_error_message(number: signal.Signals) -> None:
    said = rf"crashes ONNX Runtime .*\({number.name}\), or needs more than 256 MiB"
    with pytest.raises(Rejected, match=said):
        signature_from(-number, b"", 256 << 20)


@pytest.mark.parametrize("written", [b"", b'{"signature": {"inp', b"Killed"])
def test_a_child_that_ends_without_a_whole_answer_is_an_error_message(written: bytes) -> None:
    with pytest.raises(Rejected, match=r"ended the process that loads it \(3\)"):
        signature_from(3, written, 256 << 20)


def test_no_graph_of_a_child_that_is_killed_is_taken_for_loaded(scaler: Path) -> None:
    """Whatever it wrote before."""
    whole = json.dumps({"signature": OnnxModel(scaler).signature.to_dict()}).encode()
    assert signature_from(0, whole, 1) == OnnxModel(scaler).signature
    with pytest.raises(Rejected):
        signature_from(-signal.SIGSEGV, whole, 1)
