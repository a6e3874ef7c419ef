import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper
from onnx_graphs import value, write

from driftloop_contracts.errors import Rejected
from driftloop_onnx import BackendOptions, OnnxModel

MB = 1 << 20


@pytest.fixture(scope="module")
def hungry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph that takes 1 MB for each row."""
    nodes = [
        helper.make_node("Expand", ["x", "shape"], ["wide"]),
        helper.make_node("ReduceSum", ["wide", "axes"], ["y"]),
    ]
    return write(
        tmp_path_factory.mktemp("hungry"),
        nodes,
        [value("x", None, 1)],
        [value("y", None, 1)],
        shape=np.int64([1, MB // 4]),
        axes=np.int64([1]),
    )


def rows(number: int) -> dict[str, np.ndarray]:
    return {"x": np.ones((number, 1), np.float32)}


def test_the_private_run_that_we_call_is_there_and_answers_as_the_public_one(scaler: Path) -> None:
    session = ort.InferenceSession(str(scaler / "model.onnx"))
    inputs = {"x": np.float32([[1.0], [2.0]])}
    assert (
        session._sess.run(["y"], inputs, None)[0].tolist() == session.run(["y"], inputs)[0].tolist()
    )


def test_a_run_over_the_memory_limit_fails_and_the_next_one_goes_on(hungry: Path) -> None:
    limited = OnnxModel(hungry, BackendOptions(memory_limit_mb=8))
    assert limited.run(rows(2))["y"].shape == (2, 1)
    with pytest.raises(Exception, match="arena"):
        limited.run(rows(32))
    assert limited.run(rows(2))["y"].shape == (2, 1)


def test_each_model_has_its_own_memory_limit(hungry: Path) -> None:
    small, big, free = (
        OnnxModel(hungry, BackendOptions(memory_limit_mb=limit)) for limit in (8, 64, None)
    )
    for model, fits in ((big, 32), (free, 128), (small, 2)):
        model.run(rows(fits))
    for model, too_many in ((small, 32), (big, 128)):
        with pytest.raises(Exception, match="arena"):
            model.run(rows(too_many))


@pytest.mark.parametrize("level", ["disabled", "basic", "extended", "all"])
def test_every_level_of_optimisation_gives_the_same(hungry: Path, level: str) -> None:
    options = BackendOptions(graph_optimization=level, threads=2, inter_op_threads=2)  # type: ignore[arg-type]
    assert OnnxModel(hungry, options).run(rows(1))["y"].tolist() == [[MB // 4]]


def test_what_is_no_graph_is_refused_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(Rejected) as refused:
        OnnxModel(tmp_path)
    assert "model.onnx is not a loadable ONNX model" in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_loading_lets_other_threads_go_on(tmp_path: Path) -> None:
    side = 4_000  # 64 MB of weights
    weights = np.ones((side, side), np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    write(tmp_path, [node], [value("x", None, side)], [value("y", None, side)], w=weights)
    loading = threading.Thread(target=OnnxModel, args=(tmp_path,))
    gaps, last = [], time.perf_counter()
    loading.start()
    while loading.is_alive():
        time.sleep(0.001)
        gaps.append(time.perf_counter() - last)
        last += gaps[-1]
    took = sum(gaps)
    assert took > 0.02, "too quick to tell"
    assert sorted(gaps)[len(gaps) // 2] < 0.01
