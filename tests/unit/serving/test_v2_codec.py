import math
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from driftloop_contracts.errors import Rejected
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_serving.inference.datatypes import DTYPES
from driftloop_serving.inference.infer_call import InferRequest
from driftloop_serving.inference.v2_codec import V2

COLUMNS = Signature(
    (
        TensorSpec("age", "FP32", (-1, 1)),
        TensorSpec("city", "BYTES", (-1, 1)),
        TensorSpec("seats", "UINT8", (-1, 1)),
    ),
    (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 2))),
)


def decode(body: bytes, signature: Signature = COLUMNS) -> InferRequest:
    return V2.decode(body, None, signature, {})


def tensor(name: str, datatype: str, data: Any, **changes: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data), 1], "data": data, **changes}


def request(**changes: dict[str, Any]) -> bytes:
    tensors = {
        "age": tensor("age", "FP32", [1.5, None]),
        "city": tensor("city", "BYTES", ["Ulm", "Bonn"]),
        "seats": tensor("seats", "UINT8", [2, 4]),
    }
    for name, change in changes.items():
        tensors[name] = {**tensors.get(name, {}), **change}
    return orjson.dumps({"id": "x", "inputs": list(tensors.values())})


def test_columns_become_arrays_of_the_signatures_dtypes() -> None:
    decoded = decode(request())
    assert decoded.rows == 2
    assert decoded.id == "x"
    assert decoded.outputs == ("label", "probabilities")
    assert decoded.inputs["age"].dtype == np.float32
    assert decoded.inputs["age"][0, 0] == 1.5
    assert math.isnan(decoded.inputs["age"][1, 0])
    assert decoded.inputs["city"].tolist() == [["Ulm"], ["Bonn"]]
    assert decoded.inputs["seats"].dtype == np.uint8


def test_a_column_may_be_given_flat_or_nested_and_without_its_second_dimension() -> None:
    for change in ({"data": [[1.0], [2.0]]}, {"shape": [2], "data": [1.0, 2.0]}):
        assert decode(request(age=change)).inputs["age"].tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"age": {"name": "agee"}}, "unknown input 'agee'"),
        ({"age": {"name": None}}, "unknown input None"),
        (
            {"age": {"name": "city", "datatype": "BYTES", "data": ["a", "b"]}},
            "'city' is given twice",
        ),
        ({"age": {"datatype": "FP64"}}, "'age'.*FP32"),
        ({"age": {"shape": [3, 1]}}, "'age'.*3 values"),
        ({"age": {"shape": [2, 2]}}, "'age'.*shape"),
        ({"age": {"shape": "2,1"}}, "'age'.*shape"),
        ({"age": {"shape": [-2, 1]}}, "'age'.*shape"),
        ({"age": {"shape": [True, 1]}}, "'age'.*shape"),
        ({"age": {"shape": [0, 1], "data": []}}, "'age'.*no rows"),
        ({"age": {"data": "1,2"}}, "'age'.*list"),
        ({"age": {"data": ["1", "2"]}}, "'age'.*numbers"),
        ({"age": {"data": [True, False]}}, "'age'.*numbers"),
        ({"age": {"data": [[1.0], 2.0]}}, "'age'.*nested"),
        ({"age": {"data": [[1.0, 2.0]]}}, "'age'.*nested"),
        ({"age": {"data": [1.0, [2.0]]}}, "'age'.*numbers"),
        ({"age": {"shape": [2**62, 1]}}, "'age'.*values"),
        ({"age": {"shape": [2, 1.0]}}, "'age'.*shape"),
        ({"age": {"data": [1e300, 0.0]}}, "'age'.*range"),
        ({"city": {"data": [1, 2]}}, "'city'.*texts"),
        ({"city": {"data": ["Ulm", None]}}, "'city'.*texts"),
        ({"seats": {"data": [1, 256]}}, "'seats'.*range"),
        ({"seats": {"data": [1, -1]}}, "'seats'.*range"),
        ({"seats": {"data": [1, 2.0]}}, "'seats'.*whole numbers"),
        ({"seats": {"data": [1, 1e30]}}, "'seats'.*range"),
        ({"seats": {"parameters": 1}}, "'seats' must be an object"),
        ({"seats": {"parameters": {"shared_memory_region": "r"}}}, "'seats'.*shared memory"),
        ({"seats": {"parameters": {"binary_data_size": 2}}}, "'seats'.*both"),
        ({"seats": {"data": [1, None]}}, "'seats'.*whole numbers"),
        ({"seats": {"shape": [1, 1], "data": [1]}}, "different numbers of rows"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], names: str) -> None:
    with pytest.raises(Rejected, match=names):
        decode(request(**changes))


def test_a_missing_input_is_named() -> None:
    with pytest.raises(Rejected, match="'city' is missing"):
        decode(orjson.dumps({"inputs": [tensor("age", "FP32", [1.0])]}))


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"inputs": 1}', b'{"inputs": [1]}', b'{"inputs": [], "id": 1}',
     b"[" * 100_000, b'{"inputs": [{"name": "age", "data": [NaN]}]}', b"\xff\xfe"],
)  # fmt: skip
def test_a_body_of_another_form_is_refused(body: bytes) -> None:
    with pytest.raises(Rejected):
        decode(body)


def test_outputs_can_be_chosen_and_unknown_ones_are_refused() -> None:
    document = orjson.loads(request())
    chosen = decode(orjson.dumps({**document, "outputs": [{"name": "label"}]}))
    assert chosen.outputs == ("label",)
    with pytest.raises(Rejected, match="'labels'"):
        decode(orjson.dumps({**document, "outputs": [{"name": "labels"}]}))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"outputs": 1}, "`outputs`"),
        ({"outputs": [1]}, "unknown output None"),
        ({"outputs": [{"name": ["label"]}]}, "unknown output"),
        ({"outputs": [{"name": "label", "parameters": []}]}, "'label' must be an object"),
        ({"outputs": [{"name": "label", "parameters": {"binary_data": 1}}]}, "true or false"),
        ({"outputs": [{"name": "label", "parameters": {"classification": 3}}]}, "classification"),
        (
            {"outputs": [{"name": "label", "parameters": {"shared_memory_region": "r"}}]},
            "'label'.*shared memory",
        ),
        ({"parameters": {"binary_data_output": None}}, "true or false"),
        ({"parameters": [1]}, "the request must be an object"),
        ({"id": 7}, "`id`"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(changes: dict[str, Any], names: str) -> None:
    with pytest.raises(Rejected, match=names):
        decode(orjson.dumps({**orjson.loads(request()), **changes}))


def test_a_signature_is_never_taken_for_another() -> None:
    for place in range(2000):  # more than are remembered; ids of objects come again
        spec = TensorSpec(f"x{place}", "INT64", (-1,))
        body = orjson.dumps({"inputs": [tensor(spec.name, "INT64", [place], shape=[1])]})
        inputs = decode(body, Signature((spec,), (spec,))).inputs
        assert {name: array.tolist() for name, array in inputs.items()} == {spec.name: [place]}


def test_fields_that_clients_add_on_their_own_are_ignored() -> None:
    document = {**orjson.loads(request()), "model_name": "m", "parameters": {"sequence_id": 1}}
    assert decode(orjson.dumps(document)).rows == 2


def test_inputs_come_in_the_signatures_order_whatever_the_requests() -> None:
    document = orjson.loads(request())
    document["inputs"].reverse()
    assert list(decode(orjson.dumps(document)).inputs) == ["age", "city", "seats"]


def test_a_sentence_stays_short_however_long_the_name_was() -> None:
    for name in ("x" * 10_000, [[["x"] * 1000] * 10] * 10):
        with pytest.raises(Rejected) as refused:
            decode(request(age={"name": name}))
        assert len(str(refused.value)) < 400


def test_an_answer_echoes_the_id_and_writes_what_is_not_finite_as_null() -> None:
    asked = InferRequest('a"b', {}, ("probabilities", "label"), 1)
    outputs = {"label": np.array([1]), "probabilities": np.float32([[0.1, np.inf]])}
    for _ in range(2):
        body, _ = V2.encode(asked, outputs, "m", 3, COLUMNS)
        assert orjson.loads(body) == {
            "model_name": "m",
            "model_version": "3",
            "id": 'a"b',
            "outputs": [
                {
                    "name": "probabilities",
                    "datatype": "FP32",
                    "shape": [1, 2],
                    "data": [0.1, None],
                },
                {"name": "label", "datatype": "INT64", "shape": [1], "data": [1]},
            ],
        }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
keys = st.sampled_from(["name", "datatype", "shape", "data", "parameters"])


@given(st.sampled_from(["age", "city", "seats"]), st.dictionaries(keys, json_values))
def test_any_tensor_is_either_decoded_or_refused(name: str, change: dict[str, Any]) -> None:
    try:
        body = request(**{name: change})
    except TypeError:  # not JSON at all
        return
    try:
        decoded = decode(body)
    except Rejected:
        return
    assert {array.shape for array in decoded.inputs.values()} == {(decoded.rows, 1)}


@pytest.mark.parametrize("datatype", [d for d in DTYPES if d != "BYTES"])
@given(data=st.data())
def test_what_is_encoded_decodes_to_the_same_values(datatype: Any, data: st.DataObject) -> None:
    shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=4)
    array = data.draw(hnp.arrays(DTYPES[datatype], shapes))
    spec = TensorSpec("t", datatype, (-1, *array.shape[1:]))
    signature = Signature((spec,), (spec,))
    asked = InferRequest(None, {}, ("t",), len(array))
    body, json_length = V2.encode(asked, {"t": array}, "m", 3, signature)
    assert json_length is None
    answer = orjson.loads(body)
    assert answer["model_version"] == "3"
    (output,) = answer["outputs"]
    again = decode(orjson.dumps({"inputs": [output]}), signature).inputs["t"]
    if array.dtype.kind == "f":
        array = np.where(np.isfinite(array), array, np.nan)
    np.testing.assert_array_equal(again, array)


TEMPLATE_SIGNATURE = Signature(
    (TensorSpec("x", "FP32", (-1, 2)),),
    (TensorSpec("y", "FP32", (-1,)), TensorSpec("z", "INT64", (-1,))),
)
_VALUES = st.one_of(
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=2),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
        ),
        max_leaves=5,
    ),
)


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(_VALUES, min_size=2, max_size=6),
    fields=st.fixed_dictionaries(
        {},
        optional={
            "id": st.sampled_from(["a", '"data": [1, 2]', 'x"data"]']),
            "outputs": st.sampled_from(
                [[], [{"name": "z"}], [{"name": "y", "parameters": {"binary_data": True}}]]
            ),
            "parameters": st.sampled_from([{"binary_data_output": True}, {"data": [1.0, 2.0]}]),
        },
    ),
    first=st.booleans(),
)
def test_what_is_like_an_earlier_request_is_read_as_if_it_were_the_first(
    values: list[Any], fields: dict[str, Any], first: bool
) -> None:
    def read(body: bytes, signature: Signature) -> Any:
        try:
            r = V2.decode(body, None, signature, {})
        except Rejected as error:
            return str(error)
        return r.id, str(r.inputs), r.outputs, r.rows, r.binary  # a NaN is not equal to itself

    known = replace(TEMPLATE_SIGNATURE)  # its own plan: what it has seen is this example's
    for value in [[1.0, 2.0], *values]:
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": value}
        document = {"inputs": [tensor], **fields} if first else {**fields, "inputs": [tensor]}
        try:
            body = orjson.dumps(document)
        except TypeError:  # a number of more than 64 bits
            continue
        assert read(body, known) == read(body, replace(TEMPLATE_SIGNATURE))


def test_requests_of_one_row_are_written_together_as_one_by_one() -> None:
    outputs = {"y": np.float32([0.1, np.nan, 3]), "z": np.int64([1, -2, 3])}
    body = orjson.dumps(
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}
    )
    requests = [V2.decode(body, None, TEMPLATE_SIGNATURE, {}) for _ in range(3)]
    together = V2.encode_rows(requests, outputs, "m", 3, TEMPLATE_SIGNATURE)
    assert together == [
        V2.encode(r, {k: a[n : n + 1] for k, a in outputs.items()}, "m", 3, TEMPLATE_SIGNATURE)
        for n, r in enumerate(requests)
    ]
