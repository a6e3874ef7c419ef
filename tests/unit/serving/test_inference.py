"""Inference over HTTP, as an application sees it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from serving_port import BODY_LIMIT, ServingPort, body, serving_port

from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_onnx import BackendOptions, Loaded, OnnxModel, signature_of
from driftloop_serving.batching.model_table import ModelTable


@pytest.fixture
async def port(tmp_path: Path, scaler: Path) -> AsyncIterator[ServingPort]:
    async with serving_port(tmp_path) as opened:
        opened.deploy(scaler)
        yield opened


async def test_an_answer_is_in_the_spool_with_what_came_in_and_went_out(port: ServingPort) -> None:
    answer = await port.ask([1.0, 2.5])
    assert answer.json()["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [2, 1], "data": [2.0, 5.0]}
    ]
    (batch,) = port.kept()
    assert batch.ids == [answer.headers["x-prediction-id"]]
    assert str(batch.version) == answer.headers["x-model-version"] == "1"
    assert batch.arm == "stable"
    assert batch.inputs["x"].tolist() == [[1.0], [2.5]]
    assert batch.outputs is not None
    assert batch.outputs["y"].tolist() == [[2.0], [5.0]]
    assert 0 < batch.latencies_s[0] < 10


async def test_a_refused_request_is_no_prediction(port: ServingPort) -> None:
    assert (await port.ask([])).status_code == 400
    assert port.kept() == []


async def test_binary_tensors_come_back_as_binary(port: ServingPort) -> None:
    data = np.float32([1, 2, 3]).tobytes()
    head = {
        "name": "x",
        "datatype": "FP32",
        "shape": [3, 1],
        "parameters": {"binary_data_size": 12},
    }
    wish = {"name": "y", "parameters": {"binary_data": True}}
    document = orjson.dumps({"inputs": [head], "outputs": [wish]})
    answer = await port.http.post(
        "/v2/models/m/infer",
        content=document + data,
        headers={"inference-header-content-length": str(len(document))},
    )
    length = int(answer.headers["inference-header-content-length"])
    assert np.frombuffer(answer.content[length:], np.float32).tolist() == [2, 4, 6]


async def test_the_first_kserve_protocol_is_answered_too(port: ServingPort) -> None:
    answer = await port.http.post("/v1/models/m:predict", json={"instances": [[1.0], [2.0]]})
    assert answer.json() == {"predictions": [[2.0], [4.0]]}
    assert answer.headers["x-model-version"] == "1"


async def test_a_retry_under_the_same_id_is_the_same_prediction(port: ServingPort) -> None:
    first = await port.ask([1.0], x_prediction_id="order-17")
    second = await port.ask([1.0], x_prediction_id="order-17")
    assert first.headers["x-prediction-id"] == "order-17"
    assert first.content == second.content
    assert len(port.kept()) == 1


async def test_retries_at_the_same_time_are_one_prediction(port: ServingPort) -> None:
    big = [1.0] * 1000
    answers = await asyncio.gather(*(port.ask(big, x_prediction_id="big") for _ in range(3)))
    assert {a.status_code for a in answers} == {200}
    assert len({a.content for a in answers}) == 1
    assert len(port.kept()) == 1


async def test_after_an_error_a_retry_is_answered_anew(port: ServingPort) -> None:
    assert (await port.ask([], x_prediction_id="order-18")).status_code == 400
    assert (await port.ask([1.0], x_prediction_id="order-18")).status_code == 200


@pytest.mark.parametrize("bad", ["", "x" * 129, "a b", "é"])
async def test_an_id_that_cannot_be_one_is_refused(port: ServingPort, bad: str) -> None:
    answer = await port.http.post(
        "/v2/models/m/infer", content=b"{}", headers={b"x-prediction-id": bad.encode()}
    )
    assert answer.status_code == 400
    assert "x-prediction-id" in answer.json()["error"]


async def test_the_split_decides_and_a_routing_key_sticks(port: ServingPort, scaler: Path) -> None:
    port.deploy(scaler, TrafficSplit(1, 2, 0.5, "salt"), 1, 2)
    versions = [
        {
            (await port.ask([1.0], x_routing_key=f"user-{n}")).headers["x-model-version"]
            for _ in range(3)
        }
        for n in range(30)
    ]
    assert all(len(seen) == 1 for seen in versions)
    assert set().union(*versions) == {"1", "2"}
    assert {(b.arm, b.version) for b in port.kept()} == {("stable", 1), ("canary", 2)}


async def test_a_pinned_version_is_apart_from_the_split(port: ServingPort, scaler: Path) -> None:
    port.deploy(scaler, TrafficSplit(1, 2, 1.0, "salt"), 1, 2)
    answer = await port.ask([1.0], "/v2/models/m/versions/1/infer")
    assert answer.headers["x-model-version"] == "1"
    assert port.kept()[0].arm == "pinned"


async def test_a_canary_that_cannot_be_loaded_costs_no_answer(
    port: ServingPort, scaler: Path, tmp_path: Path
) -> None:
    signature = signature_of(scaler)
    served = (
        ServedVersion(1, str(scaler), signature),
        ServedVersion(2, str(tmp_path / "gone"), signature),
    )
    port.serve([Deployment(ModelSpec("m"), served, TrafficSplit(1, 2, 1.0))])
    answer = await port.ask([1.0])
    assert answer.headers["x-model-version"] == "1"
    assert (await port.ask([1.0], "/v2/models/m/versions/2/infer")).status_code == 503


async def test_a_model_that_fails_is_a_500_that_is_kept_and_leaks_nothing(
    port: ServingPort, scaler: Path
) -> None:
    class Broken(OnnxModel):
        def run(self, *_: Any) -> dict[str, np.ndarray]:
            raise RuntimeError("secret path /var/x")

    served = port.batcher.table.models["m"]
    loaded = {1: Loaded(Broken(scaler), BackendOptions())}
    port.batcher.table = ModelTable({"m": type(served)(served.deployment, loaded)})
    answer = await port.ask([1.0])
    assert answer.status_code == 500
    assert "secret" not in answer.text
    (batch,) = port.kept()
    assert (batch.error, batch.outputs) == ("RuntimeError", None)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/v2/models/n/infer", "unknown model 'n'; known: m"),
        ("/v2/models/m/versions/9/infer", "unknown version '9'"),
        ("/v2/models/m/versions/x/infer", "unknown version 'x'"),
        ("/v1/models/n:predict", "unknown model 'n'; known: m"),
    ],
)
async def test_what_is_unknown_is_not_found(port: ServingPort, path: str, names: str) -> None:
    answer = await port.ask([1.0], path)
    assert answer.status_code == 404
    assert names in answer.json()["error"]


async def test_an_encoded_url_leads_to_the_same_answer(port: ServingPort) -> None:
    answer = await port.ask([1.0], "/v2/models/%6d/infer?trace=1")
    assert answer.json()["outputs"][0]["data"] == [2.0]


async def test_a_body_over_the_limit_is_too_large(port: ServingPort) -> None:
    answer = await port.http.post("/v2/models/m/infer", content=b" " * (BODY_LIMIT + 1))
    assert answer.status_code == 413


async def test_a_chunked_body_is_read_whole_and_bounded(port: ServingPort) -> None:
    async def parts(data: bytes, times: int = 1) -> AsyncIterator[bytes]:
        for _ in range(times):
            for start in range(0, len(data), 7):
                yield data[start : start + 7]

    answer = await port.http.post(
        "/v2/models/m/infer", content=parts(orjson.dumps(body([1.0, 2.0])))
    )
    assert answer.json()["outputs"][0]["data"] == [2.0, 4.0]
    answer = await port.http.post("/v2/models/m/infer", content=parts(b" " * 1000, 101))
    assert answer.status_code == 413


async def test_requests_are_counted_by_version_and_arm_and_failures_by_reason(
    port: ServingPort,
) -> None:
    for data in ([1.0], [1.0, 2.0], []):
        await port.ask(data)
    await port.ask([1.0], "/v2/models/never-heard/infer")
    counts = port.meter.counts["m", 1, "stable"]
    assert (counts.requests, counts.rows, sum(counts.buckets)) == (2, 3, 2)
    assert port.meter.counts["m", 0, ""].failures == {"Rejected": 1}
    assert port.meter.counts["", 0, ""].failures == {"NotFound": 1}
    text = (await port.http.get("/metrics")).text
    assert "never-heard" not in text


async def test_what_waits_too_long_is_told_to_try_again(tmp_path: Path, scaler: Path) -> None:
    async with serving_port(tmp_path, timeout_s=0.0) as port:
        port.deploy(scaler)
        answer = await port.ask([1.0])
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert [b.error for b in port.kept()] == ["Timeout"]


async def test_feedback_goes_into_the_spool_from_the_same_port(port: ServingPort) -> None:
    answer: httpx.Response = await port.http.post(
        "/feedback", json={"prediction_id": "p", "label": [1, 0]}
    )
    assert answer.json() == {"accepted": 2}
    (record,) = port.reader.read(1 << 20).labels
    assert (record.prediction_id, record.rows) == ("p", 2)
