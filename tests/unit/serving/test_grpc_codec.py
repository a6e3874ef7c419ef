"""The gRPC form of requests and answers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftloop_contracts.errors import Rejected
from driftloop_contracts.input_rules import InputRule
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_serving.inference.binary_tensors import buffer_of
from driftloop_serving.inference.datatypes import DTYPES
from driftloop_serving.inference.grpc_codec import CONTENTS, GRPC
from driftloop_serving.inference.grpc_protocol import open_inference_pb2 as pb


def identity(datatype: Any, shape: tuple[int, ...] = (-1, 2)) -> Signature:
    return Signature((TensorSpec("x", datatype, shape),), (TensorSpec("y", datatype, shape),))


FP32 = identity("FP32")


def request(**changes: Any) -> pb.ModelInferRequest:
    """Return a request with one FP32 input of two rows. `changes`: to the tensor or the request."""
    contents = {"fp32_contents": [1.0, 2.0, 3.0, 4.0]}
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 2], "contents": contents}
    top: dict[str, Any] = {"model_name": "m", "id": "7"}
    for key, value in changes.items():
        (tensor if key in {*tensor, "parameters"} else top)[key] = value
    return pb.ModelInferRequest(**{"inputs": [tensor], **top})


def answered(asked: pb.ModelInferRequest, signature: Signature) -> pb.ModelInferResponse:
    """Return the answer of the identity."""
    decoded = GRPC.decode(asked, None, signature, {})
    return GRPC.encode(decoded, {"y": decoded.inputs["x"]}, "m", 3, signature)[0]


def arrays(datatype: str) -> st.SearchStrategy[list[Any]]:
    dtype = DTYPES[datatype]
    if datatype == "BYTES":
        element: st.SearchStrategy[Any] = st.text(st.characters(exclude_categories=["Cs"]))
    elif datatype == "BOOL":
        element = st.booleans()
    elif datatype.startswith("FP"):
        element = st.floats(width=np.dtype(dtype).itemsize * 8, allow_nan=False)
    else:
        element = st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    return st.lists(element, min_size=2, max_size=8).map(lambda found: found[: len(found) // 2 * 2])


@pytest.mark.parametrize("datatype", sorted(DTYPES))
@settings(max_examples=25)
@given(data=st.data())
def test_raw_tensors_come_back_raw(datatype: str, data: st.DataObject) -> None:
    values = np.array(data.draw(arrays(datatype)), DTYPES[datatype])
    buffer = buffer_of(values)
    asked = request(
        datatype=datatype, shape=[len(values) // 2, 2], contents={}, raw_input_contents=[buffer]
    )
    answer = answered(asked, identity(datatype))
    assert list(answer.raw_output_contents) == [buffer]
    assert not answer.outputs[0].HasField("contents")


@pytest.mark.parametrize("datatype", sorted(CONTENTS))
@settings(max_examples=25)
@given(data=st.data())
def test_typed_tensors_come_back_typed(datatype: str, data: st.DataObject) -> None:
    values = data.draw(arrays(datatype))
    sent = [value.encode() for value in values] if datatype == "BYTES" else values
    contents = {CONTENTS[datatype]: sent}
    asked = request(datatype=datatype, shape=[len(values) // 2, 2], contents=contents)
    answer = answered(asked, identity(datatype))
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == (
        "y",
        datatype,
        [len(values) // 2, 2],
    )
    assert list(getattr(output.contents, CONTENTS[datatype])) == sent
    assert not answer.raw_output_contents


def test_an_fp16_output_is_raw_whatever_the_request_was() -> None:
    signature = Signature(FP32.inputs, identity("FP16").outputs)
    decoded = GRPC.decode(request(), None, signature, {})
    half = np.float16([[1, 2], [3, 4]])
    answer, _ = GRPC.encode(decoded, {"y": half}, "m", 1, signature)
    assert list(answer.raw_output_contents) == [half.tobytes()]


def test_an_answer_names_model_version_and_id() -> None:
    answer = answered(request(), FP32)
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "3", "7")
    assert answered(request(id=""), FP32).id == ""


def test_inputs_come_in_the_signature_s_order() -> None:
    specs = tuple(TensorSpec(name, "FP32", (-1, 1)) for name in "ab")
    column = {"datatype": "FP32", "shape": [1, 1], "contents": {"fp32_contents": [1.0]}}
    asked = pb.ModelInferRequest(inputs=[{"name": "b", **column}, {"name": "a", **column}])
    assert list(GRPC.decode(asked, None, Signature(specs, specs), {}).inputs) == ["a", "b"]


def test_outputs_asked_for_twice_are_answered_once() -> None:
    asked = request(outputs=[{"name": "y"}, {"name": "y"}])
    assert [output.name for output in answered(asked, FP32).outputs] == ["y"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "z"}, "unknown input 'z'; the model takes x"),
        ({"datatype": "INT64"}, "it must be FP32"),
        ({"shape": [4, 1]}, "it must be"),
        ({"shape": [-2, -2]}, "whole numbers"),
        ({"shape": [0, 2]}, "no rows"),
        ({"shape": [2**40, 2]}, "needs"),
        ({"shape": [2**62, 2]}, "needs"),
        ({"contents": {}}, "needs 4 values"),
        ({"contents": {"fp64_contents": [1.0] * 4}}, "needs 4 values"),
        ({"inputs": []}, "'x' is missing"),
        ({"raw_input_contents": [b"\0" * 15]}, "16 bytes"),
        ({"raw_input_contents": [b"", b""]}, "2 buffers for 1 inputs"),
        ({"outputs": [{"name": "w"}]}, "unknown output 'w'; the model returns y"),
        ({"parameters": {"shared_memory_region": {"string_param": "r"}}}, "shared memory"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Rejected, match=sentence):
        GRPC.decode(request(**changes), None, FP32, {})


def test_an_input_given_twice_is_refused() -> None:
    asked = request()
    asked.inputs.append(asked.inputs[0])
    with pytest.raises(Rejected, match="'x' is given twice"):
        GRPC.decode(asked, None, FP32, {})


def test_a_value_out_of_a_small_type_s_range_is_refused() -> None:
    asked = request(datatype="INT8", contents={"int_contents": [1, 2, 3, 128]})
    with pytest.raises(Rejected, match="range of INT8"):
        GRPC.decode(asked, None, identity("INT8"), {})


@pytest.mark.parametrize("raw", [True, False])
def test_bytes_that_are_no_text_are_refused(raw: bool) -> None:
    form: dict[str, Any] = (
        {"raw_input_contents": [b"\1\0\0\0\xff" * 2]}
        if raw
        else {"contents": {"bytes_contents": [b"\xff", b"a"]}}
    )
    asked = request(datatype="BYTES", shape=[1, 2], **({"contents": {}} | form))
    with pytest.raises(Rejected, match="UTF-8"):
        GRPC.decode(asked, None, identity("BYTES"), {})


def test_typed_fp16_is_told_where_to_go() -> None:
    asked = request(datatype="FP16", contents={"fp32_contents": [1.0] * 4})
    with pytest.raises(Rejected, match="raw_input_contents"):
        GRPC.decode(asked, None, identity("FP16"), {})


def test_the_rules_of_the_owner_are_kept() -> None:
    asked = request(contents={"fp32_contents": [1.0, 2.0, float("nan"), 4.0]})
    with pytest.raises(Rejected, match="missing value"):
        GRPC.decode(asked, None, FP32, {"x": InputRule(nan_allowed=False)})
