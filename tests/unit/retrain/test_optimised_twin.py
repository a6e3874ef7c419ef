"""An 8-bit twin is kept only if it is shown to be as good, and faster."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper

from driftloop_onnx import OnnxModel
from driftloop_retrain.tabular.evaluation.speed import ratio
from driftloop_retrain.tabular.inference import outputs_of
from driftloop_retrain.tabular.optimised_twin import PAIRS, Twin, Z, is_faster, optimised

RANDOM = np.random.default_rng(5)
WIDE = 192
ROWS = pa.table({"x": pa.array(list(RANDOM.normal(size=(300, WIDE)).astype(np.float32)))})


def written(folder: Path, wide: int = WIDE) -> Path:
    weight = RANDOM.normal(size=(wide, wide)).astype(np.float32) / wide**0.5
    last = RANDOM.normal(size=(wide, 1)).astype(np.float32) / wide**0.5
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("MatMul", ["t", "v"], ["y"]),
        helper.make_node("Reshape", ["y", "flat"], ["value"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", wide])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["n"])],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(last, "v"),
            numpy_helper.from_array(np.array([-1], np.int64), "flat"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    return folder


def made(folder: Path, factor: float, allowed: float = 0.01, **more: Any) -> Twin:
    """With a twin that takes `factor` times as long, and noise; the graph's answers are true."""
    outputs, calls = outputs_of(OnnxModel(folder), ROWS), []

    def timed(*_: object) -> tuple[np.ndarray, np.ndarray]:
        # The first of the two forms, int8, is a little faster than the second.
        noise = np.exp(RANDOM.normal(0, 0.2, (PAIRS, 2)))
        calls.append(1)
        return noise[:, 0], factor * noise[:, 1] * (1.0 if len(calls) <= 2 else 1.2)

    def lost(answers: Any) -> np.ndarray:
        return np.minimum(np.abs(answers["value"] - outputs["value"]), 1.0)

    return optimised(folder, ROWS, outputs, lost, allowed, timed, **more)


def test_a_twin_that_is_as_good_and_faster_replaces_the_graph(tmp_path: Path) -> None:
    folder = written(tmp_path / "v")
    size = (folder / "model.onnx").stat().st_size
    twin = made(folder, 0.6)
    assert twin.kept
    assert [each["form"] for each in twin.record["forms"]] == ["int8", "fp16"]
    assert all(each["rise"]["high"] <= 0.01 for each in twin.record["forms"])
    assert (folder / "model.onnx").stat().st_size < size / 2
    assert twin.outputs is not None
    assert np.array_equal(outputs_of(OnnxModel(folder), ROWS)["value"], twin.outputs["value"])
    assert [each.name for each in folder.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("factor", "allowed", "reason"),
    [
        (1.0, 0.01, "it is not shown to be faster"),
        (0.6, 1e-9, "its loss is not shown to be no higher"),
        (1.5, 1e-9, "and it is not shown to be faster"),
    ],
)
def test_one_that_lacks_either_leaves_the_graph_as_it_is(
    tmp_path: Path, factor: float, allowed: float, reason: str
) -> None:
    folder = written(tmp_path / "v")
    before = (folder / "model.onnx").read_bytes()
    twin = made(folder, factor, allowed)
    assert not twin.kept
    assert all(reason in each["reason"] for each in twin.record["forms"])
    assert (folder / "model.onnx").read_bytes() == before
    assert [each.name for each in folder.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("form", ["int8", "fp16"])
def test_a_repeated_training_keeps_what_was_kept(form: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "v")
    size = (folder / "model.onnx").stat().st_size
    twin = made(folder, 1.0, forced=form)
    assert twin.form == form
    assert (folder / "model.onnx").stat().st_size < 0.7 * size
    assert [each.name for each in folder.iterdir()] == ["model.onnx"]


def test_half_precision_changes_answers_little_and_no_inputs_or_outputs(tmp_path: Path) -> None:
    folder = written(tmp_path / "v")
    plain = OnnxModel(folder)
    before = outputs_of(plain, ROWS)["value"]
    twin = made(folder, 1.0, forced="fp16")
    assert OnnxModel(folder).signature == plain.signature
    assert twin.outputs is not None
    difference = np.abs(twin.outputs["value"] - before)
    assert 0 < difference.max() < 0.01


def test_small_graphs_have_no_twin(tmp_path: Path) -> None:
    folder = written(tmp_path / "v", wide=16)
    rows = pa.table({"x": pa.array(list(RANDOM.normal(size=(8, 16)).astype(np.float32)))})
    twin = optimised(folder, rows, {}, lambda _: np.zeros(8), 0.01)
    assert (twin.kept, "no matrix" in twin.record["reason"]) == (False, True)


def test_noise_is_never_taken_for_speed() -> None:
    """5,000 pairs of equal graphs on a machine that is busy now and then."""
    for _ in range(5_000):
        times = np.exp(RANDOM.normal(0, 0.25, (PAIRS, 2)))
        assert not is_faster([ratio(times[:, 0], times[:, 1], z=Z)["high"]] * 2)
