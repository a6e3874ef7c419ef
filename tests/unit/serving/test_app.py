import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_onnx import OnnxModel, signature_of
from driftloop_serving.app import App
from driftloop_serving.inference import Inference
from driftloop_serving.model_table import ModelTable, reload
from driftloop_serving.spool import SpoolWriter
from driftloop_serving.spool_reader import SpoolReader
from driftloop_serving.spool_record import LabelRecord, PredictionRecord
from driftloop_settings.settings import CaptureSettings

BODY_LIMIT = 100_000


class World:
    """An application with the model `m`, version 1, and a look at its spool."""

    def __init__(self, root: Path, scaler: Path) -> None:
        spool = SpoolWriter(root, "replica", CaptureSettings())
        self.reader = SpoolReader(root / spool.replica)
        self.inference = Inference(spool)
        self.app = App(self.inference, spool, BODY_LIMIT, in_flight_limit=4)
        self.scaler = scaler
        self.deploy(TrafficSplit(1), 1)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://x")

    def deploy(self, split: TrafficSplit, *versions: int, path: str | None = None) -> None:
        signature = signature_of(self.scaler)
        served = tuple(ServedVersion(v, path or str(self.scaler), signature) for v in versions)
        wanted = [Deployment(ModelSpec("m"), served, split)]
        self.inference.table = reload(self.inference.table, wanted, OnnxModel)

    async def ask(
        self, data: list[float], path: str = "/v2/models/m/infer", **headers: str
    ) -> httpx.Response:
        tensor = {"name": "x", "datatype": "FP32", "shape": [len(data), 1], "data": data}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(path, json={"inputs": [tensor]}, headers=named)

    def kept(self) -> list[PredictionRecord]:
        chunk = self.reader.read(1 << 20)
        self.reader.acknowledge(chunk, {})
        return chunk.predictions


@pytest.fixture
async def world(tmp_path: Path, scaler: Path) -> AsyncIterator[World]:
    made = World(tmp_path, scaler)
    yield made
    await made.http.aclose()


async def test_an_answer_is_in_the_spool_with_what_came_in_and_went_out(world: World) -> None:
    answer = await world.ask([1.0, 2.5])
    assert answer.json()["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [2, 1], "data": [2.0, 5.0]}
    ]
    (record,) = world.kept()
    assert record.prediction_id == answer.headers["x-prediction-id"]
    assert str(record.version) == answer.headers["x-model-version"] == "1"
    assert record.arm == "stable"
    assert record.inputs["x"].tolist() == [[1.0], [2.5]]
    assert record.outputs is not None
    assert record.outputs["y"].tolist() == [[2.0], [5.0]]
    assert 0 < record.latency_s < 10


async def test_a_refused_request_is_no_prediction(world: World) -> None:
    assert (await world.ask([])).status_code == 400
    assert world.kept() == []


async def test_a_retry_under_the_same_id_is_the_same_prediction(world: World) -> None:
    first = await world.ask([1.0], x_prediction_id="order-17")
    second = await world.ask([1.0], x_prediction_id="order-17")
    assert first.headers["x-prediction-id"] == "order-17"
    assert first.content == second.content
    assert len(world.kept()) == 1


async def test_retries_at_the_same_time_are_one_prediction(world: World) -> None:
    big = [1.0] * 1000
    answers = await asyncio.gather(*(world.ask(big, x_prediction_id="big") for _ in range(3)))
    assert {a.status_code for a in answers} == {200}
    assert len(world.kept()) == 1


@pytest.mark.parametrize("bad", ["", "x" * 129, "a b", "é"])
async def test_an_id_that_cannot_be_one_is_refused(world: World, bad: str) -> None:
    answer = await world.http.post(
        "/v2/models/m/infer", content=b"{}", headers={b"x-prediction-id": bad.encode()}
    )
    assert answer.status_code == 400
    assert "x-prediction-id" in answer.json()["error"]


async def test_the_split_decides_and_a_routing_key_sticks(world: World) -> None:
    world.deploy(TrafficSplit(1, 2, 0.5, "salt"), 1, 2)
    versions = [
        {
            (await world.ask([1.0], x_routing_key=f"user-{n}")).headers["x-model-version"]
            for _ in range(3)
        }
        for n in range(30)
    ]
    assert all(len(seen) == 1 for seen in versions)
    assert set().union(*versions) == {"1", "2"}
    assert {(r.arm, r.version) for r in world.kept()} == {("stable", 1), ("canary", 2)}


async def test_a_pinned_version_is_apart_from_the_split(world: World) -> None:
    world.deploy(TrafficSplit(1, 2, 1.0, "salt"), 1, 2)
    answer = await world.ask([1.0], "/v2/models/m/versions/1/infer")
    assert answer.headers["x-model-version"] == "1"
    assert world.kept()[0].arm == "pinned"


async def test_a_canary_that_cannot_be_loaded_costs_no_answer(world: World, tmp_path: Path) -> None:
    signature = signature_of(world.scaler)
    served = (
        ServedVersion(1, str(world.scaler), signature),
        ServedVersion(2, str(tmp_path / "gone"), signature),
    )
    wanted = [Deployment(ModelSpec("m"), served, TrafficSplit(1, 2, 1.0))]
    world.inference.table = reload(world.inference.table, wanted, OnnxModel)
    answer = await world.ask([1.0])
    assert answer.headers["x-model-version"] == "1"
    assert (await world.http.get("/v2/models/m/versions/2/ready")).status_code == 503
    assert (await world.ask([1.0], "/v2/models/m/versions/2/infer")).status_code == 503


async def test_a_reload_keeps_the_graphs_that_stay(world: World) -> None:
    before = world.inference.table.models["m"].versions[1]
    world.deploy(TrafficSplit(1, 2, 0.1), 1, 2)
    assert world.inference.table.models["m"].versions[1] is before


async def test_a_model_that_fails_is_a_500_that_is_kept_and_leaks_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(OnnxModel):
        def run(self, *_: Any) -> dict[str, np.ndarray]:
            raise RuntimeError("secret path /var/x")

    graph = Broken(world.scaler)
    served = world.inference.table.models["m"]
    table = ModelTable({"m": type(served)(served.deployment, {1: graph})})
    world.inference.table = table
    answer = await world.ask([1.0])
    assert answer.status_code == 500
    assert "secret" not in answer.text
    (record,) = world.kept()
    assert (record.error, record.outputs) == ("RuntimeError", None)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/v2/models/n/infer", "unknown model 'n'; known: m"),
        ("/v2/models/m/versions/9/infer", "unknown version '9'"),
        ("/v2/models/m/versions/x/infer", "unknown version 'x'"),
    ],
)
async def test_what_is_unknown_is_not_found(world: World, path: str, names: str) -> None:
    answer = await world.ask([1.0], path)
    assert answer.status_code == 404
    assert names in answer.json()["error"]


async def test_a_body_over_the_limit_is_too_large(world: World) -> None:
    answer = await world.http.post("/v2/models/m/infer", content=b" " * (BODY_LIMIT + 1))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/m/ready", {"name": "m", "ready": True}),
        ("/v2/models/m/versions/1/ready", {"name": "m", "ready": True}),
        (
            "/v2/models/m",
            {
                "name": "m",
                "versions": ["1"],
                "platform": "onnx_onnxv1",
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}],
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
            },
        ),
    ],
)
async def test_health_and_metadata(world: World, path: str, body: dict[str, Any]) -> None:
    answer = await world.http.get(path)
    assert (answer.status_code, answer.json()) == (200, body)


async def test_the_server_names_itself_with_and_without_a_slash(world: World) -> None:
    for path in ("/v2", "/v2/"):
        assert (await world.http.get(path)).json()["name"] == "driftloop"


@pytest.mark.parametrize("path", ["/nowhere", "/v2/models/n", "/v2/models/m/versions/9"])
async def test_errors_have_the_protocols_form(world: World, path: str) -> None:
    answer = await world.http.get(path)
    assert answer.status_code == 404
    assert set(answer.json()) == {"error"}


async def test_labels_go_into_the_spool(world: World) -> None:
    answer = await world.http.post("/feedback", json={"prediction_id": "p", "label": [1, 0]})
    assert answer.json() == {"accepted": 2}
    labels = world.reader.read(1 << 20).labels
    assert [type(label) for label in labels] == [LabelRecord, LabelRecord]
    assert {label.prediction_id for label in labels} == {"p"}


@pytest.mark.parametrize("body", [b"{", b"7", b'{"prediction_id": "p"}'])
async def test_feedback_that_is_none_is_refused(world: World, body: bytes) -> None:
    answer = await world.http.post("/feedback", content=body)
    assert answer.status_code == 400
    assert "feedback" in answer.json()["error"]
