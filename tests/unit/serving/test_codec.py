import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from driftloop_contracts.errors import Rejected
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_serving.codec import DTYPES, InferRequest, decode, encode
from driftloop_serving.rules import parse_rules

COLUMNS = Signature(
    (
        TensorSpec("age", "FP32", (-1, 1)),
        TensorSpec("city", "BYTES", (-1, 1)),
        TensorSpec("seats", "UINT8", (-1, 1)),
    ),
    (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 2))),
)


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
    decoded = decode(request(), COLUMNS)
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
        assert decode(request(age=change), COLUMNS).inputs["age"].tolist() == [[1.0], [2.0]]


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
        ({"age": {"data": [[1.0], 2.0]}}, "'age'.*numbers"),
        ({"age": {"data": [1e300, 0.0]}}, "'age'.*range"),
        ({"city": {"data": [1, 2]}}, "'city'.*texts"),
        ({"city": {"data": ["Ulm", None]}}, "'city'.*texts"),
        ({"seats": {"data": [1, 256]}}, "'seats'.*range"),
        ({"seats": {"data": [1, -1]}}, "'seats'.*range"),
        ({"seats": {"data": [1, 2.0]}}, "'seats'.*whole numbers"),
        ({"seats": {"data": [1, None]}}, "'seats'.*whole numbers"),
        ({"seats": {"shape": [1, 1], "data": [1]}}, "different numbers of rows"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], names: str) -> None:
    with pytest.raises(Rejected, match=names):
        decode(request(**changes), COLUMNS)


def test_a_missing_input_is_named() -> None:
    with pytest.raises(Rejected, match="'city' is missing"):
        decode(orjson.dumps({"inputs": [tensor("age", "FP32", [1.0])]}), COLUMNS)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"inputs": 1}', b'{"inputs": [1]}', b'{"inputs": [], "id": 1}',
     b"[" * 100_000, b'{"inputs": [{"name": "age", "data": [NaN]}]}', b"\xff\xfe"],
)  # fmt: skip
def test_a_body_of_another_form_is_refused(body: bytes) -> None:
    with pytest.raises(Rejected):
        decode(body, COLUMNS)


def test_outputs_can_be_chosen_and_unknown_ones_are_refused() -> None:
    document = orjson.loads(request())
    chosen = decode(orjson.dumps({**document, "outputs": [{"name": "label"}]}), COLUMNS)
    assert chosen.outputs == ("label",)
    with pytest.raises(Rejected, match="'labels'"):
        decode(orjson.dumps({**document, "outputs": [{"name": "labels"}]}), COLUMNS)


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
        decoded = decode(body, COLUMNS)
    except Rejected:
        return
    assert {array.shape for array in decoded.inputs.values()} == {(decoded.rows, 1)}


@pytest.mark.parametrize("datatype", [d for d in DTYPES if d not in ("BYTES", "FP16")])
@given(data=st.data())
def test_what_is_encoded_decodes_to_the_same_values(datatype: Any, data: st.DataObject) -> None:
    shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=4)
    array = data.draw(hnp.arrays(DTYPES[datatype], shapes))
    spec = TensorSpec("t", datatype, (-1, *array.shape[1:]))
    signature = Signature((spec,), (spec,))
    asked = InferRequest(None, {}, ("t",), len(array))
    answer = orjson.loads(encode(asked, {"t": array}, "m", 3, signature))
    assert answer["model_version"] == "3"
    (output,) = answer["outputs"]
    again = decode(orjson.dumps({"inputs": [output]}), signature).inputs["t"]
    if array.dtype.kind == "f":
        array = np.where(np.isfinite(array), array, np.nan)
    np.testing.assert_array_equal(again, array)


RULES = {
    "city": {"categories": ["Ulm", "Bonn"], "unknown": "reject"},
    "age": {"nan": "reject"},
}


def test_a_category_or_missing_value_that_the_owner_forbids_is_refused() -> None:
    rules = parse_rules({"inputs": RULES})
    whole = {"data": [1.0, 2.0]}
    assert decode(request(age=whole), COLUMNS, rules).rows == 2
    with pytest.raises(Rejected, match="'Kiel' is no known category"):
        decode(request(age=whole, city={"data": ["Ulm", "Kiel"]}), COLUMNS, rules)
    with pytest.raises(Rejected, match=r"'age'.*missing value"):
        decode(request(), COLUMNS, rules)


@pytest.mark.parametrize("rule", [{"unknown": "ignore"}, {"nan": "perhaps"}, {"unknown": "reject"}])
def test_a_policy_that_does_not_exist_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(Rejected, match="city"):
        parse_rules({"inputs": {"city": rule}})
