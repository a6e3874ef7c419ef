from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from driftloop_contracts.errors import Rejected
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_serving.inference.datatypes import DTYPES
from driftloop_serving.inference.infer_call import InferRequest
from driftloop_serving.inference.v2_codec import V2

MIXED = Signature(
    (
        TensorSpec("flag", "BOOL", (-1,)),
        TensorSpec("city", "BYTES", (-1, 1)),
        TensorSpec("age", "FP32", (-1, 2)),
    ),
    (TensorSpec("label", "INT64", (-1,)), TensorSpec("name", "BYTES", (-1,))),
)
FLAGS = b"\x01\x00"
CITIES = b"\x03\x00\x00\x00Ulm\x06\x00\x00\x00K\xc3\xb6ln\x00"
AGES = np.float32([[1.5, 2], [3, np.nan]]).tobytes()


def binary(name: str, datatype: str, shape: list[int], nbytes: int) -> dict[str, Any]:
    parameters = {"binary_data_size": nbytes}
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": parameters}


def request(
    *buffers: bytes, changes: Any = (), padding: int = 0, **fields: Any
) -> tuple[bytes, int]:
    """Return a body with the three tensors, and the length of its JSON."""
    flags, cities, ages = buffers or (FLAGS, CITIES, AGES)
    tensors = [
        binary("flag", "BOOL", [2], len(flags)),
        binary("city", "BYTES", [2, 1], len(cities)),
        binary("age", "FP32", [2, 2], len(ages)),
    ]
    for place, change in dict(changes).items():
        tensors[place] = {**tensors[place], **change}
    head = orjson.dumps({"inputs": tensors, **fields}) + b" " * padding
    return head + flags + cities + ages, len(head)


def decode(body: bytes, json_length: int | None, signature: Signature = MIXED) -> InferRequest:
    return V2.decode(body, json_length, signature, {})


@pytest.mark.parametrize("padding", range(8))
def test_buffers_behind_the_json_become_aligned_arrays(padding: int) -> None:
    inputs = decode(*request(padding=padding)).inputs
    assert inputs["flag"].tolist() == [True, False]
    assert inputs["city"].tolist() == [["Ulm"], ["Köln\0"]]
    np.testing.assert_array_equal(inputs["age"], np.float32([[1.5, 2], [3, np.nan]]))
    assert all(array.flags.aligned for array in inputs.values())


def test_json_and_binary_tensors_may_be_mixed() -> None:
    tensors = [
        binary("flag", "BOOL", [2], 2),
        {"name": "city", "datatype": "BYTES", "shape": [2, 1], "data": ["Ulm", "Bonn"]},
        binary("age", "FP32", [2, 2], 16),
    ]
    head = orjson.dumps({"inputs": tensors})
    inputs = decode(head + FLAGS + AGES, len(head)).inputs
    assert inputs["city"].tolist() == [["Ulm"], ["Bonn"]]
    assert inputs["age"][0].tolist() == [1.5, 2.0]


@pytest.mark.parametrize(
    ("built", "names"),
    [
        (request(FLAGS + b"\0", CITIES, AGES), "'flag'.*2 bytes, it has 3"),
        (request(b"\x02\x00", CITIES, AGES), "'flag'.*0 and 1"),
        (request(FLAGS, CITIES, AGES[:-1]), "'age'.*16 bytes, it has 15"),
        (request(FLAGS, CITIES[:-1], AGES), "'city'.*2 elements"),
        (request(FLAGS, CITIES + b"\0", AGES), "'city'.*2 elements"),
        (request(FLAGS, b"\xff\xff\xff\xff", AGES), "'city'.*2 elements"),
        (request(FLAGS, b"\xff\xff\xff\xff\0\0\0\0", AGES), "'city'.*2 elements"),
        (request(FLAGS, b"\x01\0\0\0\xff\0\0\0\0", AGES), "'city'.*UTF-8"),
        (request(changes={2: {"parameters": {"binary_data_size": 32}}}), "'age'.*16 are left"),
        (request(changes={2: {"parameters": {"binary_data_size": -1}}}), "'age'.*whole number"),
        (request(changes={2: {"parameters": {"binary_data_size": True}}}), "'age'.*whole number"),
        (request(changes={2: {"shape": [2**62, 2]}}), "'age'.*need"),
        (request(changes={1: {"shape": [2**62, 1]}}), "'city'.*elements"),
        (request(changes={2: {"parameters": {}}}), "'age'.*list"),
        (request(changes={2: {"data": [1, 2, 3, 4]}}), "'age'.*both"),
        (request(changes={1: {"shape": [2**62, 1]}, 0: {"shape": [2**62]}}), "'flag'"),
    ],
)
def test_a_buffer_that_does_not_fit_is_refused(built: tuple[bytes, int], names: str) -> None:
    with pytest.raises(Rejected, match=names):
        decode(*built)


def test_the_length_of_the_json_must_be_right() -> None:
    body, json_length = request()
    for wrong in (-1, 1, json_length - 1, len(body), len(body) + 1, 2**40):
        with pytest.raises(Rejected):
            decode(body, wrong)
    with pytest.raises(Rejected, match="1 bytes are left in the body"):
        decode(body + b"\0", json_length)
    with pytest.raises(Rejected, match="not valid JSON"):
        decode(body, None)
    with pytest.raises(Rejected, match=r"'flag'.*needs the header"):
        decode(body[:json_length], None)


def test_a_wish_of_an_output_goes_before_the_requests() -> None:
    for all_binary, wishes, expected in (
        (True, None, {"label", "name"}),
        (False, None, set()),
        (
            True,
            [{"name": "label", "parameters": {"binary_data": False}}, {"name": "name"}],
            {"name"},
        ),
        (
            False,
            [{"name": "label", "parameters": {"binary_data": True}}, {"name": "name"}],
            {"label"},
        ),
    ):
        parameters = {"binary_data_output": all_binary}
        decoded = decode(*request(parameters=parameters, outputs=wishes))
        assert decoded.binary == expected
        assert decoded.outputs == ("label", "name")


def test_an_answer_may_mix_json_and_buffers() -> None:
    outputs = {"label": np.array([1, 2]), "name": np.array(["ä", ""], object)}
    asked = InferRequest("7", {}, ("name", "label"), 2, frozenset({"name"}))
    body, json_length = V2.encode(asked, outputs, "m", 3, MIXED)
    assert json_length is not None
    assert body[json_length:] == b"\x02\0\0\0\xc3\xa4\0\0\0\0"
    document = orjson.loads(body[:json_length])
    assert document["outputs"] == [
        binary("name", "BYTES", [2], 10),
        {"name": "label", "datatype": "INT64", "shape": [2], "data": [1, 2]},
    ]


def test_a_raw_request_has_its_only_free_dimension_from_its_length() -> None:
    one = Signature((TensorSpec("x", "FP32", (-1, 2)),), MIXED.outputs)
    decoded = decode(AGES, 0, one)
    assert decoded.inputs["x"].shape == (2, 2)
    assert decoded.rows == 2
    assert decoded.binary == {"label", "name"}
    inner = Signature((TensorSpec("x", "INT16", (2, -1)),), MIXED.outputs)
    assert decode(AGES, 0, inner).inputs["x"].shape == (2, 4)
    for body in (AGES[:-1], AGES[:-4], b""):
        with pytest.raises(Rejected, match="'x'"):
            decode(body, 0, one)


def test_a_raw_request_of_bytes_is_one_text() -> None:
    signature = Signature((TensorSpec("x", "BYTES", (-1, 1)),), MIXED.outputs)
    assert decode("Köln".encode(), 0, signature).inputs["x"].tolist() == [["Köln"]]
    with pytest.raises(Rejected, match="UTF-8"):
        decode(b"\xff", 0, signature)


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        (MIXED.inputs, "models with one input"),
        ((TensorSpec("x", "FP32", (-1, -1)),), "cannot say"),
        ((TensorSpec("x", "BYTES", (-1, 2)),), "one"),
        ((TensorSpec("x", "FP32", (2, 3)),), "24 bytes"),
        ((TensorSpec("x", "FP32", (-1, 0)),), "no elements"),
    ],
)
def test_a_raw_request_is_refused_where_it_cannot_say_what_it_holds(
    inputs: tuple[TensorSpec, ...], names: str
) -> None:
    with pytest.raises(Rejected, match=names):
        decode(AGES, 0, Signature(inputs, MIXED.outputs))


@pytest.mark.parametrize("datatype", list(DTYPES))
@given(data=st.data())
def test_what_is_encoded_as_buffers_decodes_to_the_same_values(
    datatype: Any, data: st.DataObject
) -> None:
    shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=4)
    elements = st.text(max_size=5) if datatype == "BYTES" else None
    array = data.draw(hnp.arrays(DTYPES[datatype], shapes, elements=elements))
    spec = TensorSpec("t", datatype, (-1, *array.shape[1:]))
    signature = Signature((spec,), (spec,))
    asked = InferRequest(None, {}, ("t",), len(array), frozenset({"t"}))
    body, json_length = V2.encode(asked, {"t": array}, "m", 3, signature)
    (output,) = orjson.loads(body[:json_length])["outputs"]
    head = orjson.dumps({"inputs": [output]})
    again = decode(head + body[json_length:], len(head), signature).inputs["t"]
    np.testing.assert_array_equal(again, array)
