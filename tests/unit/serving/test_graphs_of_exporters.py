"""Graphs whose signature is not tabular: inputs of unknown rank, and inputs with a default."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_graphs import value, write
from serving_port import ServingPort, serving_port

from driftloop_contracts.errors import Rejected
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_onnx import OnnxModel
from driftloop_serving.capture.packing import pack, to_batch
from driftloop_serving.inference.grpc_codec import GRPC
from driftloop_serving.inference.grpc_protocol import open_inference_pb2 as pb
from driftloop_serving.inference.v1_codec import V1
from driftloop_serving.inference.v2_codec import V2

FREE = Signature((TensorSpec("x", "FP32", None),), (TensorSpec("y", "FP32", None),))


@pytest.fixture
def unranked(tmp_path: Path) -> Path:
    """y = 2x, of any shape."""
    free = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    node = helper.make_node("Mul", ["x", "two"], ["y"])
    return write(tmp_path / "unranked", [node], free[:1], free[1:], two=np.float32(2))


@pytest.fixture
def defaulted(tmp_path: Path) -> Path:
    """y = factor · x, where factor has a default, 2."""
    return write(
        tmp_path / "defaulted",
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        [value("x", None, 1), value("factor", 1)],
        [value("y", None, 1)],
        factor=np.float32([2]),
    )


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[ServingPort]:
    async with serving_port(tmp_path) as opened:
        yield opened


def tensor(name: str, array: Any) -> dict[str, Any]:
    found = np.float32(array)
    return {
        "name": name, "datatype": "FP32", "shape": list(found.shape), "data": found.ravel().tolist()
    }  # fmt: skip


async def infer(port: ServingPort, *tensors: dict[str, Any]) -> Any:
    answer = await port.http.post("/v2/models/m/infer", json={"inputs": tensors})
    document = answer.json()
    if answer.status_code != 200:
        return document["error"]
    (output,) = document["outputs"]
    return np.float32(output["data"]).reshape(output["shape"])


async def test_an_unknown_rank_is_advertised_and_taken_as_it_comes(
    port: ServingPort, unranked: Path
) -> None:
    port.deploy(unranked)
    metadata = (await port.http.get("/v2/models/m")).json()
    for side, name in (("inputs", "x"), ("outputs", "y")):
        assert metadata[side] == [
            {"name": name, "datatype": "FP32", "shape": [-1], "parameters": {"unknown_rank": True}}
        ]
    assert metadata["properties"] == {"unknown_rank": "x, y"}
    for array in (3.0, [1, 2], [[1, 2, 3], [4, 5, 6]], np.ones((2, 1, 2, 1))):
        np.testing.assert_array_equal(await infer(port, tensor("x", array)), 2 * np.float32(array))
    rows = [batch.rows for batch in port.kept()]
    assert rows == [1, 2, 2, 2]


async def test_a_scalar_stays_a_scalar(port: ServingPort, tmp_path: Path) -> None:
    scalars = [value("x"), value("y")]
    port.deploy(write(tmp_path, [helper.make_node("Neg", ["x"], ["y"])], scalars[:1], scalars[1:]))
    metadata = (await port.http.get("/v2/models/m")).json()
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": []}]
    assert "properties" not in metadata
    assert "it must be []" in await infer(port, tensor("x", [1, 2]))


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 3), max_size=4).map(tuple), codec=st.sampled_from(["v2", "grpc"])
)
def test_any_shape_is_decoded_captured_and_packed(shape: tuple[int, ...], codec: str) -> None:
    array = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    if codec == "v2":
        document = {"inputs": [tensor("x", array)]}
        request = V2.decode(str(document).replace("'", '"').encode(), None, FREE, {})
    else:
        asked = pb.ModelInferRequest()
        given = asked.inputs.add(name="x", datatype="FP32", shape=shape)
        given.contents.fp32_contents.extend(array.ravel().tolist())
        request = GRPC.decode(asked, None, FREE, {})
    np.testing.assert_array_equal(request.inputs["x"], array)
    assert request.rows == (shape[0] if shape else 1)


def test_v1_takes_any_nesting_for_an_unknown_rank() -> None:
    assert V1.decode(b'{"instances": [[[1, 2]], [[3, 4]]]}', None, FREE, {}).rows == 2
    assert V1.decode(b'{"inputs": {"x": 5}}', None, FREE, {}).inputs["x"].shape == ()


async def test_an_optional_input_may_be_given_or_left_out(
    port: ServingPort, defaulted: Path
) -> None:
    port.deploy(defaulted)
    metadata = (await port.http.get("/v2/models/m")).json()
    assert metadata["inputs"][1] == {
        "name": "factor", "datatype": "FP32", "shape": [1], "parameters": {"optional": True}
    }  # fmt: skip
    assert metadata["properties"] == {"optional": "factor"}
    x, factor = tensor("x", [[1], [2]]), tensor("factor", [5])
    assert (await infer(port, x)).tolist() == [[2], [4]]
    assert (await infer(port, factor, x)).tolist() == [[5], [10]]
    assert await infer(port, factor) == "input 'x' is missing"
    config = (await port.http.get("/v2/models/m/config")).json()
    assert [each.get("optional", False) for each in config["input"]] == [False, True]


async def test_requests_that_give_optional_inputs_run_alone_and_all_is_captured(
    port: ServingPort, defaulted: Path
) -> None:
    port.deploy(defaulted)
    asked = [
        infer(port, tensor("x", [[n]]), *([tensor("factor", [n])] if n % 2 else []))
        for n in range(12)
    ]
    answers = await asyncio.gather(*asked)
    assert [a.item() for a in answers] == [n * n if n % 2 else 2 * n for n in range(12)]
    kept = port.kept()
    rows = pa.Table.from_batches([to_batch(kept, "r")]).to_pylist()
    given = {row["in_x"]: row["in_factor"] for row in rows}
    assert given == {float(n): float(n) if n % 2 else None for n in range(12)}
    assert all(value is not None for _, value in pack(kept, "r", 100, 1 << 20))


async def test_v1_takes_optional_inputs_with_the_columns(
    port: ServingPort, defaulted: Path
) -> None:
    port.deploy(defaulted)

    async def predict(body: dict[str, Any]) -> Any:
        return (await port.http.post("/v1/models/m:predict", json=body)).json()

    assert await predict({"instances": [[1], [2]]}) == {"predictions": [[2], [4]]}
    columns = {"inputs": {"x": [[1], [2]], "factor": [3]}}
    assert await predict(columns) == {"predictions": [[3], [6]]}
    refused = await predict({"instances": [{"x": [1], "factor": 3}]})
    assert "send it in `inputs`" in refused["error"]


def test_weights_listed_as_inputs_are_not_offered(tmp_path: Path) -> None:
    names = [f"w{i}" for i in range(40)]
    folder = write(
        tmp_path,
        [helper.make_node("Sum", ["x", *names], ["y"])],
        [value("x", None, 1), *(value(name, 1) for name in names)],
        [value("y", None, 1)],
        **{name: np.float32([1]) for name in names},
    )
    assert OnnxModel(folder).signature.optional == ()


@pytest.mark.parametrize(
    ("made", "how"),
    [
        (
            helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None),
            "'y' is a sequence .*ConcatFromSequence",
        ),
        (
            helper.make_value_info(
                "y",
                helper.make_sequence_type_proto(
                    helper.make_map_type_proto(
                        TensorProto.INT64,
                        helper.make_tensor_type_proto(TensorProto.FLOAT, None),
                    )
                ),
            ),
            "zipmap",
        ),
    ],
)
def test_sequences_and_maps_are_refused_with_how_to_do_without(
    made: Any, how: str, tmp_path: Path
) -> None:
    if "zipmap" in how:
        node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0])
    else:
        node = helper.make_node("SequenceConstruct", ["x"], ["y"])
    folder = write(tmp_path, [node], [value("x", None, 1)], [made])
    with pytest.raises(Rejected, match=how):
        OnnxModel(folder)
