"""The client against a replica's serving port as it is, and against answers that tests write."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
import pytest
from onnx import TensorProto, helper

from driftloop_client import (
    AsyncClient,
    Client,
    Conflict,
    NotFound,
    Prediction,
    Rejected,
    RetryLater,
    Unavailable,
)

INPUTS = [
    {"name": "income", "datatype": "FP32", "shape": [-1, 1]},
    {"name": "city", "datatype": "BYTES", "shape": [-1, 1]},
    {"name": "children", "datatype": "INT64", "shape": [-1, 1]},
]
COLUMNS: dict[str, list[Any]] = {
    "income": [1.5, None, 3.0], "city": ["Ulm", "Bonn", None], "children": [0, 1, 2],
}  # fmt: skip
FRAME = pd.DataFrame(COLUMNS)


class Stack:
    """Answers infer requests with the sum of `income` and `children`, and the city."""

    def __init__(self, *trouble: Any) -> None:
        self.trouble = list(trouble)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET" and request.url.path.startswith("/v2/models/"):
            return httpx.Response(200, json={"inputs": INPUTS})
        self.asked.append(request)
        if self.trouble:
            what = self.trouble.pop(0)
            if isinstance(what, Exception):
                raise what
            return what
        return self._answer(request)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/feedback":
            lines = request.content.decode().splitlines()
            return httpx.Response(200, json={"accepted": len(lines), "rejected": 0, "errors": []})
        if request.method == "POST" and request.url.path.startswith("/api/"):
            return httpx.Response(200, json={"id": "r1", "state": "requested"})
        length = int(request.headers["inference-header-content-length"])
        head, body = json.loads(request.content[:length]), request.content[length:]
        found, at = {}, 0
        for tensor in head["inputs"]:
            size = tensor["parameters"]["binary_data_size"]
            found[tensor["name"]] = (tensor, body[at : at + size])
            at += size
        income = np.frombuffer(found["income"][1], "<f4")
        children = np.frombuffer(found["children"][1], "<i8")
        values = (income + children).astype("<f4").tobytes()
        cities = found["city"][1]
        outputs = [
            {"name": "value", "datatype": "FP32", "shape": [len(income)],
             "parameters": {"binary_data_size": len(values)}},
            {"name": "town", "datatype": "BYTES", "shape": [len(income)],
             "parameters": {"binary_data_size": len(cities)}},
        ]  # fmt: skip
        answer = json.dumps({"model_version": "3", "outputs": outputs}).encode()
        headers = {
            "inference-header-content-length": str(len(answer)),
            "x-prediction-id": request.headers["x-prediction-id"],
            "x-model-version": "3",
        }
        return httpx.Response(200, content=answer + values + cities, headers=headers)


def client_of(stack: Callable[[httpx.Request], httpx.Response], **options: Any) -> Client:
    return Client(
        "http://stack:8000", http=httpx.Client(transport=httpx.MockTransport(stack)), **options
    )


@pytest.mark.parametrize(
    "data",
    [
        COLUMNS,
        FRAME,
        FRAME[["city", "children", "income"]],
        pa.table(COLUMNS),
        FRAME.to_dict(orient="records"),
        {name: np.array(values) for name, values in COLUMNS.items()},
    ],
)
def test_rows_in_any_form(data: Any) -> None:
    answer = client_of(Stack()).predict("loans", data)
    np.testing.assert_array_equal(answer["value"], np.float32([1.5, np.nan, 5.0]))
    assert answer["town"].tolist() == ["Ulm", "Bonn", ""]
    assert (len(answer), answer.version, answer.row_numbers) == (3, 3, (0, 1, 2))
    assert answer.rows[0]["town"] == "Ulm"


def test_a_polars_frame() -> None:
    polars = pytest.importorskip("polars")
    answer = client_of(Stack()).predict("loans", polars.DataFrame(COLUMNS))
    assert answer["town"].tolist() == ["Ulm", "Bonn", ""]


def test_one_row_as_a_plain_dict() -> None:
    row = {"income": 2.0, "city": "Ulm", "children": 1}
    assert client_of(Stack()).predict("loans", row)["value"].tolist() == [3.0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"age": [1, 2, 3]}, "no input 'age'"),
        ({"income": ["a", "b", "c"]}, "'income' takes numbers"),
        ({"children": [1, None, 2]}, "'children' takes whole numbers"),
        ({"children": [1.5, 2, 2]}, "'children' takes whole numbers"),
        ({"children": [1]}, "differ in length"),
    ],
)
def test_wrong_rows_are_refused_before_they_are_sent(change: dict[str, Any], sentence: str) -> None:
    stack = Stack()
    with pytest.raises(Rejected, match=sentence):
        client_of(stack).predict("loans", COLUMNS | change)
    assert not stack.asked


def test_a_missing_column_and_no_rows_are_refused() -> None:
    with pytest.raises(Rejected, match="lack the column 'city'"):
        client_of(Stack()).predict("loans", FRAME[["income", "children"]])
    with pytest.raises(Rejected, match="no rows"):
        client_of(Stack()).predict("loans", FRAME[:0])


def test_a_retry_keeps_the_prediction_id() -> None:
    busy = httpx.Response(503, headers={"retry-after": "0"}, json={"error": "overloaded"})
    stack = Stack(busy, httpx.ReadError("gone"), httpx.Response(502))
    answer = client_of(stack).predict("loans", COLUMNS)
    ids = [request.headers["x-prediction-id"] for request in stack.asked]
    assert len(ids) == 4
    assert set(ids) == {answer.prediction_id}


def test_a_long_frame_is_sent_in_parts_that_come_back_as_one() -> None:
    stack = Stack()
    rows = {"income": np.arange(10.0), "city": ["Ulm"] * 10, "children": np.arange(10)}
    answer = client_of(stack, rows_per_request=4).predict("loans", rows)
    assert answer["value"].tolist() == [2.0 * number for number in range(10)]
    assert len(stack.asked) == len(set(answer.prediction_ids)) == 3
    assert answer.row_numbers == (0, 1, 2, 3, 0, 1, 2, 3, 0, 1)


def test_labels_name_their_predictions_and_rows() -> None:
    stack = Stack()
    client = client_of(stack)
    answer = client.predict("loans", COLUMNS)
    assert client.feedback(answer.labelled(np.array([1, 0, 1])))["accepted"] == 3
    lines = [json.loads(line) for line in stack.asked[-1].content.splitlines()]
    assert lines[2] == {"prediction_id": answer.prediction_id, "row": 2, "label": 1}
    with pytest.raises(Rejected, match="2 labels for 3 rows"):
        answer.labelled([1, 0])


def test_feedback_of_a_frame_leaves_out_what_is_missing() -> None:
    stack = Stack()
    times = pd.to_datetime(["2026-11-01T00:00:00Z", None])
    frame = pd.DataFrame({"prediction_id": ["a", "b"], "label": [1.0, 0.0], "observed_at": times})
    client_of(stack).feedback(frame)
    first, second = (json.loads(line) for line in stack.asked[-1].content.splitlines())
    assert first["observed_at"].startswith("2026-11-01T00:00:00")
    assert second == {"prediction_id": "b", "label": 0.0}


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (400, {}, Rejected),
        (404, {}, NotFound),
        (409, {}, Conflict),
        (503, {"retry-after": "60"}, RetryLater),
        (503, {}, Unavailable),
    ],
)
def test_errors_say_what_to_do_with_the_servers_sentence(
    status: int, headers: dict[str, str], error: type[Exception]
) -> None:
    stack = Stack(httpx.Response(status, headers=headers, json={"error": "because of it"}))
    with pytest.raises(error, match="because of it") as raised:
        client_of(stack).predict("loans", COLUMNS)
    assert type(raised.value) is error


def test_what_is_not_safe_to_repeat_is_sent_once() -> None:
    stack = Stack(httpx.ReadError("gone"))
    with pytest.raises(RetryLater):
        client_of(stack).retrain("loans")
    assert len(stack.asked) == 1


def test_a_stack_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = Client(f"http://127.0.0.1:{port}", patience_s=0.0)
    with client, pytest.raises(Unavailable, match="cannot be reached"):
        client.predict("loans", COLUMNS)


@pytest.mark.parametrize("url", ["localhost:8000", "", "ftp://x"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Rejected, match="not an address"):
        Client(url)


def test_the_key_is_a_bearer_token() -> None:
    with Client(key="secret") as client:
        assert client._http.headers["authorization"] == "Bearer secret"


def test_a_graph_is_packed_with_its_spec(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, 1]) for n in "xy"]
    graph = helper.make_graph([node], "g", tensors[:1], tensors[1:])
    onnx.save(helper.make_model(graph), tmp_path / "net.onnx")
    (tmp_path / "model.yaml").write_text("name: loans\nmodel: net.onnx\n")
    stack = Stack()
    client_of(stack).deploy(tmp_path, task="regression", output="y")
    assert stack.asked[-1].url == "http://stack:8001/api/models?at_once=false"
    assert b'"task": "regression"' in stack.asked[-1].content
    with pytest.raises(NotFound, match="no file"):
        client_of(stack).deploy(tmp_path / "other.onnx", name="m")
    with pytest.raises(Rejected, match="name="):
        client_of(stack).deploy(tmp_path / "net.onnx")


async def test_the_asynchronous_client_answers_the_same() -> None:
    stack = Stack(httpx.ReadError("gone"))
    http = httpx.AsyncClient(transport=httpx.MockTransport(stack))
    async with AsyncClient("http://stack:8000", http=http) as client:
        answer = await client.predict("loans", COLUMNS)
    assert isinstance(answer, Prediction)
    assert answer["town"].tolist() == ["Ulm", "Bonn", ""]
    assert len(stack.asked) == 2
