"""What clients without a library of their own send: curl, or any HTTP library."""

import gzip
import json
import struct
import zlib
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import numpy as np
import pytest

LENGTH = "inference-header-content-length"


def send(
    http: str, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection(http.removeprefix("http://"), timeout=30)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, names)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def infer(http: str, document: Any, model: str = "scaler", **headers: str) -> dict[str, Any]:
    answer, body = send(
        http, "POST", f"/v2/models/{model}/infer", json.dumps(document).encode(), **headers
    )
    return {"status": answer.status, **json.loads(body)}


def tensor(data: list[Any], **changes: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [len(data), 1], "data": data, **changes}


def test_no_content_type_is_needed(http: str) -> None:
    body = json.dumps({"inputs": [tensor([1.0])]}).encode()
    answer, text = send(http, "POST", "/v2/models/scaler/versions/1/infer", body)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(text) == {
        "model_name": "scaler",
        "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [2.0]}],
    }


def test_nested_and_flat_data_are_the_same(http: str) -> None:
    flat, nested = ({"inputs": [tensor(d, shape=[2, 1])]} for d in ([1, 2], [[1], [2]]))
    path = "scaler/versions/1"
    assert infer(http, flat, path) == infer(http, nested, path)


def test_null_is_a_missing_value(http: str) -> None:
    answer = infer(http, {"inputs": [tensor([None, 1.0])]}, "scaler/versions/1")
    assert answer["outputs"][0]["data"] == [None, 2.0]


def test_unknown_fields_are_ignored(http: str) -> None:
    document = {"inputs": [tensor([1.0], parameters={"a": 1})], "parameters": {"b": 2}, "c": 3}
    assert infer(http, document)["status"] == 200


def test_a_raw_request_is_its_one_input(http: str) -> None:
    body = np.array([1.0, 2.0, 3.0], "<f4").tobytes()
    answer, content = send(
        http,
        "POST",
        "/v2/models/scaler/versions/1/infer",
        body,
        inference_header_content_length="0",
        content_type="application/octet-stream",
    )
    assert answer.status == 200, content
    length = int(answer.headers[LENGTH])
    (output,) = json.loads(content[:length])["outputs"]
    assert output["shape"] == [3, 1]
    assert output["parameters"] == {"binary_data_size": 12}
    assert np.frombuffer(content[length:], "<f4").tolist() == [2.0, 4.0, 6.0]


def test_a_binary_text_is_its_length_and_its_bytes(http: str) -> None:
    digits = {"name": "digit", "datatype": "INT64", "shape": [1, 1], "data": [3]}
    document = {"inputs": [digits], "parameters": {"binary_data_output": True}}
    answer, content = send(http, "POST", "/v2/models/words/infer", json.dumps(document).encode())
    assert answer.headers["content-type"] == "application/octet-stream"
    word = "drüben".encode()
    assert content[int(answer.headers[LENGTH]) :] == struct.pack("<I", len(word)) + word


def test_an_output_s_wish_wins_over_the_request_s(http: str) -> None:
    document = {
        "inputs": [tensor([1.0])],
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "y", "parameters": {"binary_data": False}}],
    }
    assert infer(http, document, "scaler/versions/1")["outputs"][0]["data"] == [2.0]


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "999999", "", "1" * 40])
def test_a_wrong_length_of_the_json_is_refused(http: str, value: str) -> None:
    body = json.dumps({"inputs": [tensor([1.0])]}).encode()
    answer, content = send(
        http, "POST", "/v2/models/scaler/infer", body, inference_header_content_length=value
    )
    assert answer.status == 400
    assert "error" in json.loads(content)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"inputs": []}', b'{"inputs": 1}', b"\xff\xfe", b"[" * 100_000],
    ids=["empty", "cut", "list", "null", "no inputs", "number", "no text", "deep"],
)
def test_a_body_that_is_no_request_is_refused(http: str, body: bytes) -> None:
    answer, content = send(http, "POST", "/v2/models/scaler/infer", body)
    assert answer.status == 400
    assert list(json.loads(content)) == ["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v2/models/nobody", 404),
        ("GET", "/v2/models/scaler/infer", 405),
        ("DELETE", "/v2/models/scaler", 405),
        ("POST", "/v2/models/scaler/versions/7/infer", 404),
    ],
)
def test_every_error_has_the_protocol_s_form(
    http: str, method: str, path: str, status: int
) -> None:
    answer, content = send(http, method, path)
    assert answer.status == status
    assert list(json.loads(content)) == ["error"]


def test_an_encoded_name_reaches_its_model(http: str) -> None:
    assert infer(http, {"inputs": [tensor([1.0])]}, "%73caler")["status"] == 200


def test_a_prediction_id_of_ones_own_is_kept(http: str) -> None:
    body = json.dumps({"inputs": [tensor([1.0])]}).encode()
    path = "/v2/models/scaler/infer"
    answer, _ = send(http, "POST", path, body, x_prediction_id="invoice-2026-11")
    assert answer.headers["x-prediction-id"] == "invoice-2026-11"
    answer, _ = send(http, "POST", path, body, x_prediction_id="with blanks")
    assert answer.status == 400


def test_v1_columns_and_rows_give_the_same(http: str) -> None:
    rows = {"instances": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]}
    columns = {"inputs": {"a": [1, 3], "b": [2, 4]}}
    found = []
    for document in (rows, columns):
        answer, content = send(
            http, "POST", "/v1/models/pair:predict", json.dumps(document).encode()
        )
        assert answer.status == 200, content
        assert answer.headers["x-model-version"] == "1"
        assert answer.headers["x-prediction-id"]
        found.append(json.loads(content))
    rows_out = [{"sum": [3.0], "product": [2.0]}, {"sum": [7.0], "product": [12.0]}]
    assert found == [{"predictions": rows_out}] * 2


BODY = json.dumps({"inputs": [tensor([1.0])]}).encode()
VERSION_1 = "/v2/models/scaler/versions/1"


@pytest.mark.parametrize(
    ("encoding", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_an_encoded_body_is_answered_as_a_plain_one(http: str, encoding: str, encode: Any) -> None:
    path = f"{VERSION_1}/infer"
    plain, encoded = (
        send(http, "POST", path, body, **headers)
        for body, headers in ((BODY, {}), (encode(BODY), {"content_encoding": encoding}))
    )
    assert (encoded[0].status, encoded[1]) == (200, plain[1])


def test_what_cannot_be_decoded_is_refused_with_what_can(http: str) -> None:
    path = f"{VERSION_1}/infer"
    answer, content = send(http, "POST", path, BODY, content_encoding="br")
    assert (answer.status, answer.headers["accept-encoding"]) == (415, "gzip, deflate")
    assert "gzip" in json.loads(content)["error"]
    answer, content = send(http, "POST", path, BODY, content_encoding="gzip")
    assert (answer.status, "gzip" in json.loads(content)["error"]) == (400, True)


@pytest.mark.parametrize("path", ["/v2", "/v2/health/ready", VERSION_1, "/metrics", "/nothing"])
def test_head_is_get_without_its_body(http: str, path: str) -> None:
    """On one connection: what a HEAD is answered must not be taken for the next answer."""
    connection = HTTPConnection(http.removeprefix("http://"), timeout=30)
    try:
        found = []
        for method in ("HEAD", "GET", "HEAD"):
            connection.request(method, path)
            answer = connection.getresponse()
            found.append((answer.status, answer.headers["content-type"], answer.read()))
    finally:
        connection.close()
    assert found[0] == found[2] == (*found[1][:2], b"")
    assert found[1][2]


def test_options_names_the_methods(http: str) -> None:
    for path, methods in (
        (f"{VERSION_1}/infer", "OPTIONS, POST"),
        (VERSION_1, "GET, HEAD, OPTIONS"),
    ):
        answer, content = send(http, "OPTIONS", path)
        assert (answer.status, answer.headers["allow"], content) == (204, methods, b"")


def feedback(http: str, *lines: Any) -> tuple[int, dict[str, Any]]:
    """Send one document, or several as a stream of lines."""
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    kind = "application/json" if len(lines) == 1 else "application/x-ndjson"
    answer, content = send(http, "POST", "/feedback", body, content_type=kind)
    return answer.status, json.loads(content)


def wrong_times() -> list[str]:
    ahead = datetime.now(UTC) + timedelta(days=2)
    return ["9999-12-31T23:59:59-12:00", ahead.isoformat(), "1969-12-31T23:59:59Z", "soon"]


def test_a_label_of_an_impossible_time_is_refused_and_the_other_lines_are_kept(http: str) -> None:
    wrong = [{"prediction_id": "p", "label": 1, "observed_at": time} for time in wrong_times()]
    for label in wrong:
        status, answer = feedback(http, label)
        assert (status, "`observed_at`" in answer["error"]) == (400, True)
    status, answer = feedback(http, {"prediction_id": "p", "label": 1}, *wrong)
    assert (status, answer["accepted"], answer["rejected"]) == (200, 1, len(wrong))
    assert [error["line"] for error in answer["errors"]] == [2, 3, 4, 5]


def test_several_labels_of_a_row_are_refused_with_what_to_send(http: str) -> None:
    status, answer = feedback(http, {"prediction_id": "p", "label": [[1, 0], [0, 1]]})
    assert (status, "`metric`" in answer["error"]) == (400, True)
