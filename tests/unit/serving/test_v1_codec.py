from typing import Any

import numpy as np
import orjson
import pytest

from driftloop_contracts.errors import Rejected
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_serving.inference.infer_call import InferRequest
from driftloop_serving.inference.v1_codec import V1

OUTPUTS = (TensorSpec("label", "INT64", (-1,)), TensorSpec("p", "FP32", (-1, 2)))
ONE = Signature((TensorSpec("x", "FP32", (-1, 2)),), OUTPUTS)
TWO = Signature(
    (TensorSpec("age", "FP32", (-1, 1)), TensorSpec("city", "BYTES", (-1,))), OUTPUTS[:1]
)
FIXED = Signature((TensorSpec("x", "FP32", (-1, 2)), TensorSpec("scale", "FP64", ())), OUTPUTS[:1])
ANSWER = {"label": np.array([1, 0]), "p": np.float32([[0.1, np.nan], [1, 2]])}


def decode(document: Any, signature: Signature) -> dict[str, Any]:
    request = V1.decode(orjson.dumps(document), None, signature, {})
    assert request.outputs == tuple(spec.name for spec in signature.outputs)
    return {name: array.tolist() for name, array in request.inputs.items()}


@pytest.mark.parametrize(
    "document",
    [
        {"instances": [[1, 2], [3, 4]]},
        {"instances": [{"x": [1, 2]}, {"x": [3, 4]}], "signature_name": "serving_default"},
        {"inputs": [[1, 2], [3, 4]]},
        {"inputs": {"x": [[1, 2], [3, 4]]}},
    ],
)
def test_rows_of_a_model_of_one_input_need_no_name(document: Any) -> None:
    assert decode(document, ONE) == {"x": [[1, 2], [3, 4]]}


@pytest.mark.parametrize(
    "document",
    [
        {"instances": [{"city": "Ulm", "age": 1}, {"city": "Bonn", "age": 2}]},
        {"instances": [{"city": "Ulm", "age": [1]}, {"city": "Bonn", "age": [2]}]},
        {"inputs": {"city": ["Ulm", "Bonn"], "age": [1, 2]}},
        {"inputs": {"city": ["Ulm", "Bonn"], "age": [[1], [2]]}},
    ],
)
def test_several_inputs_are_named_by_row_or_by_column(document: Any) -> None:
    assert decode(document, TWO) == {"age": [[1], [2]], "city": ["Ulm", "Bonn"]}


def test_an_input_without_rows_is_given_by_column() -> None:
    assert decode({"inputs": {"x": [[1, 2]], "scale": 3}}, FIXED) == {"x": [[1, 2]], "scale": 3}
    with pytest.raises(Rejected, match=r"'scale'.*`inputs`"):
        decode({"instances": [{"x": [1, 2], "scale": 3}]}, FIXED)


@pytest.mark.parametrize(
    ("document", "signature", "names"),
    [
        ([], ONE, "object"),
        ({}, ONE, "either"),
        ({"instances": [[1, 2]], "inputs": [[1, 2]]}, ONE, "either"),
        ({"instances": []}, ONE, "at least one row"),
        ({"instances": {"x": [1, 2]}}, ONE, "at least one row"),
        ({"instances": [1, 2]}, ONE, r"shape \[2\]"),
        ({"instances": [[1, 2, 3]]}, ONE, r"shape \[1, 3\]"),
        ({"instances": [[1, 2], [3]]}, ONE, "nested"),
        ({"instances": [[1, 2], 3]}, ONE, "nested"),
        ({"instances": [[[1], [2]]]}, ONE, "numbers"),
        ({"instances": [["1", "2"]]}, ONE, "numbers"),
        ({"instances": [[]]}, ONE, "shape"),
        ({"instances": [{"b64": "eA=="}]}, ONE, "unknown input 'b64'"),
        ({"instances": [[1, "Ulm"]]}, TWO, "an object with age, city"),
        ({"instances": [{"age": 1, "city": "Ulm"}, {"age": 2}]}, TWO, "'city'.*instance 1"),
        ({"instances": [{"age": 1, "city": "Ulm", "x": 2}]}, TWO, "unknown input 'x'"),
        ({"inputs": {"age": [1]}}, TWO, "'city' is missing"),
        ({"inputs": {"age": [1], "city": ["Ulm", "Bonn"]}}, TWO, "different numbers of rows"),
        ({"inputs": {"age": 1, "city": "Ulm"}}, TWO, "shape"),
        ({"inputs": [1, 2]}, TWO, "an object with age, city"),
    ],
)
def test_what_is_wrong_is_named(document: Any, signature: Signature, names: str) -> None:
    with pytest.raises(Rejected, match=names):
        decode(document, signature)


@pytest.mark.parametrize(
    ("outputs", "predictions"),
    [
        (("label",), [1, 0]),
        (("p",), [[0.1, None], [1.0, 2.0]]),
        (("label", "p"), [{"label": 1, "p": [0.1, None]}, {"label": 0, "p": [1.0, 2.0]}]),
    ],
)
def test_predictions_are_rows(outputs: tuple[str, ...], predictions: Any) -> None:
    body, json_length = V1.encode(InferRequest(None, {}, outputs, 2), ANSWER, "m", 1, ONE)
    assert json_length is None
    assert orjson.loads(body) == {"predictions": predictions}


def test_texts_and_outputs_without_rows_are_written_too() -> None:
    outputs = {"name": np.array(["a", "b"], object), "scale": np.array(1.5)}
    body, _ = V1.encode(InferRequest(None, {}, ("name", "scale"), 2), outputs, "m", 1, ONE)
    assert orjson.loads(body)["predictions"] == [
        {"name": "a", "scale": 1.5},
        {"name": "b", "scale": 1.5},
    ]
