from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper
from onnx_graphs import value, write

from driftloop_onnx import BackendOptions, OnnxModel, load
from driftloop_onnx.made_up import made_up

node = helper.make_node
STRING, INT64 = TensorProto.STRING, TensorProto.INT64


def why(folder: Path, **options: object) -> str | None:
    return load(folder, BackendOptions(**options)).why_not_batched  # type: ignore[arg-type]


def test_a_graph_that_answers_each_row_alone_is_batched(scaler: Path) -> None:
    assert why(scaler) is None


@pytest.mark.parametrize(
    "nodes",
    [
        [node("ReduceMean", ["x"], ["m"], axes=[0]), node("Sub", ["x", "m"], ["y"])],
        [node("Softmax", ["x"], ["y"], axis=0)],
        [
            node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ],
    ],
    ids=["mean", "softmax", "quantised"],
)
def test_a_graph_that_mixes_rows_is_not(tmp_path: Path, nodes: list[NodeProto]) -> None:
    write(tmp_path, nodes, [value("x", None, 3)], [value("y", None, 3)])
    assert why(tmp_path) == "output 'y' of a row depends on the other rows in the run"


def test_rows_of_outputs_must_follow_those_of_inputs(tmp_path: Path) -> None:
    write(
        tmp_path, [node("ReduceSum", ["x"], ["y"], keepdims=0)], [value("x", None, 2)], [value("y")]
    )
    assert "does not have a row for each row" in str(why(tmp_path))


def test_a_wrong_shape_that_a_converter_declared_does_no_harm(tmp_path: Path) -> None:
    # onnxmltools declares [1] for the label of LightGBM's classifiers.
    write(
        tmp_path,
        [node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)],
        [value("x", None, 2)],
        [value("y", None, kind=INT64)],
    )
    assert why(tmp_path) is None


def test_a_fixed_number_of_rows_cannot_be_batched(tmp_path: Path) -> None:
    write(tmp_path, [node("Neg", ["x"], ["y"])], [value("x", 4, 2)], [value("y", 4, 2)])
    assert why(tmp_path) == "input 'x' has no free first dimension"


def test_a_graph_that_refuses_made_up_inputs_is_ready_and_not_batched(tmp_path: Path) -> None:
    # Free dimensions that a MatMul cannot bring together.
    write(
        tmp_path,
        [node("MatMul", ["x", "w"], ["y"])],
        [value("x", None, None)],
        [value("y", None, 1)],
        w=np.ones((5, 1), np.float32),
    )
    assert "failed on synthetic inputs" in str(why(tmp_path))
    assert why(tmp_path, batching="on") is None
    answer = load(tmp_path, BackendOptions()).model.run({"x": np.ones((2, 5), np.float32)})
    assert answer["y"].tolist() == [[5.0], [5.0]]


def test_texts_and_several_inputs_are_probed_too(tmp_path: Path) -> None:
    lookup = node(
        "LabelEncoder",
        ["city"],
        ["n"],
        domain="ai.onnx.ml",
        keys_strings=["a", "b"],
        values_floats=[1.0, 2.0],
    )
    write(
        tmp_path,
        [lookup, node("Add", ["n", "x"], ["y"])],
        [value("city", None, 1, kind=STRING), value("x", None, 1)],
        [value("y", None, 1)],
    )
    assert why(tmp_path) is None


def test_batching_can_be_switched_off(scaler: Path) -> None:
    assert why(scaler, batching="off") == "batching is off"


def test_made_up_inputs_fit_every_datatype_and_are_the_same_each_time(tmp_path: Path) -> None:
    kinds = {
        "a": TensorProto.BOOL,
        "b": TensorProto.UINT8,
        "c": TensorProto.INT64,
        "d": TensorProto.FLOAT16,
        "e": TensorProto.DOUBLE,
        "f": STRING,
    }
    write(
        tmp_path,
        [node("Identity", [name], [f"out_{name}"]) for name in kinds],
        [value(name, None, 2, None, kind=kind) for name, kind in kinds.items()],
        [value(f"out_{name}", None, 2, None, kind=kind) for name, kind in kinds.items()],
    )
    model = OnnxModel(tmp_path)
    first, second = made_up(model.signature, 3), made_up(model.signature, 3)
    for name, array in model.run(first).items():
        assert array.shape == (3, 2, 16)
        assert array.tolist() == second[name.removeprefix("out_")].tolist()
