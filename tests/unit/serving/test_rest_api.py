import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.routing import APIRoute

from driftloop_contracts import errors
from driftloop_contracts.model import (
    RESERVED,
    Deployment,
    ModelSpec,
    ServedVersion,
    TrafficSplit,
    check_new_name,
)
from driftloop_onnx import signature_of
from driftloop_serving.batching import desired_state
from driftloop_serving.batching.batcher import Batcher
from driftloop_serving.batching.model_table import reload
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.capture.spool_reader import SpoolReader
from driftloop_serving.http.rest_api import make_rest_api
from driftloop_serving.metrics.meter import ReplicaMeter
from driftloop_serving.metrics.meter_files import Load, MeterFiles
from driftloop_settings import CaptureSettings
from driftloop_store import Store, open_store

BODY_LIMIT = 100_000
INPUTS = [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}]
OUTPUTS = [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}]


class World:
    """A replica's application, with the model `m` (versions 1 and 2, and 3, which cannot be loaded)
    in its table and in the store, which is only created for tests that need it."""

    def __init__(self, root: Path, scaler: Path) -> None:
        self.spool = SpoolWriter(root / "spool", "replica", CaptureSettings())
        meter = ReplicaMeter()
        self.batcher = Batcher(self.spool, meter, in_flight_limit=4)
        counts = MeterFiles(
            root / "metrics", root / "spool", self.spool.replica, meter, lambda: Load(0, 0.0)
        )
        self._root = root
        app = make_rest_api(
            self.batcher, self.spool, counts, lambda: self.store, body_limit_bytes=BODY_LIMIT
        )
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x")
        signature = signature_of(scaler)
        paths = {1: str(scaler), 2: str(scaler), 3: str(root / "gone")}
        versions = tuple(ServedVersion(v, path, signature) for v, path in paths.items())
        self._deployment = Deployment(ModelSpec("m"), versions, TrafficSplit(1))
        self.batcher.table = reload(self.batcher.table, [replace(self._deployment, revision=1)])

    @cached_property
    def store(self) -> Store:
        store = open_store(f"sqlite:///{self._root / 'store.db'}")
        store.put_deployment(self._deployment)
        return store

    def follow_store(self) -> None:
        """Does continuously what the `serving` role does."""
        self.batcher.table = reload(self.batcher.table, self.store.deployments())

    async def get(self, path: str) -> tuple[int, Any]:
        answer = await self.http.get(path)
        return answer.status_code, answer.json()

    async def post(self, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.http.post(path, content=body, headers=named)
        return answer.status_code, answer.json() if answer.content else None

    async def followed(self, path: str) -> tuple[int, Any]:
        """Post while the `serving` role is active."""
        asked = asyncio.create_task(self.post(path))
        while not asked.done():
            self.follow_store()
            await asyncio.sleep(0.01)
        return await asked


@pytest.fixture
async def world(tmp_path: Path, scaler: Path) -> AsyncIterator[World]:
    made = World(tmp_path, scaler)
    yield made
    await made.http.aclose()
    made.batcher.close()
    made.spool.close()


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/m/ready", {"name": "m", "ready": True}),
        ("/v2/models/m/versions/2/ready", {"name": "m", "ready": True}),
        ("/v1/models/m", {"name": "m", "ready": True}),
        ("/v1/models", {"models": ["m"], "object": "list", "data": []}),
    ],
)
async def test_health_and_readiness(world: World, path: str, document: Any) -> None:
    assert await world.get(path) == (200, document)


async def test_a_version_that_is_not_loaded_is_not_ready(world: World) -> None:
    assert await world.get("/v2/models/m/versions/3/ready") == (503, {"name": "m", "ready": False})


async def test_the_server_names_itself_and_its_extensions(world: World) -> None:
    for path in ("/v2", "/v2/"):
        status, document = await world.get(path)
        assert (status, document["name"]) == (200, "driftloop")
        assert {"binary_tensor_data", "model_repository", "statistics"} <= set(
            document["extensions"]
        )


@pytest.mark.parametrize("path", ["/v2/models/m", "/v2/models/m/versions/2"])
async def test_metadata_comes_from_the_signature(world: World, path: str) -> None:
    assert await world.get(path) == (
        200,
        {
            "name": "m",
            "versions": ["1", "2", "3"],
            "platform": "onnx_onnxv1",
            "inputs": INPUTS,
            "outputs": OUTPUTS,
        },
    )


async def test_configuration_has_tritons_form(world: World) -> None:
    status, config = await world.get("/v2/models/m/config")
    assert (status, config["name"], config["max_batch_size"]) == (200, "m", 1024)
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [1]}]
    assert config["dynamic_batching"] == {"max_queue_delay_microseconds": 0}
    assert config["version_policy"] == {"specific": {"versions": [1, 2, 3]}}


async def test_a_version_that_shares_no_run_has_no_batch_size(world: World) -> None:
    _, config = await world.get("/v2/models/m/versions/3/config")
    assert (config["max_batch_size"], "dynamic_batching" in config) == (0, False)
    assert config["input"][0]["dims"] == [-1, 1]


async def test_the_index_says_what_is_ready_and_why_something_is_not(world: World) -> None:
    status, entries = await world.post("/v2/repository/index")
    assert status == 200
    assert [(e["version"], e["state"]) for e in entries] == [
        ("1", "READY"),
        ("2", "READY"),
        ("3", "UNAVAILABLE"),
    ]
    assert "no model file" in entries[2]["reason"]
    _, ready = await world.post("/v2/repository/index", b'{"ready": true}')
    assert ready == entries[:2]
    assert await world.post("/v2/repository/index", b'{"ready": false}') == (200, entries)


async def test_an_unloaded_model_is_known_but_answers_nothing(world: World) -> None:
    assert await world.followed("/v2/repository/models/m/unload") == (200, None)
    _, entries = await world.post("/v2/repository/index")
    assert {(e["state"], e["reason"]) for e in entries} == {("UNAVAILABLE", "unloaded")}
    assert (await world.get("/v2/models/m"))[0] == 200
    assert (await world.get("/v2/models/m/ready"))[0] == 503
    assert await world.get("/v2/health/ready") == (200, {"ready": True})
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}'
    assert await world.post("/v2/models/m/infer", body) == (503, {"error": "model 'm' is unloaded"})
    assert await world.followed("/v2/repository/models/m/load") == (200, None)
    assert (await world.post("/v2/models/m/infer", body))[0] == 200
    assert [a["action"] for a in world.store.audits()] == ["load", "unload"]


async def test_load_of_what_is_loaded_and_unload_of_what_is_not_change_nothing(
    world: World,
) -> None:
    before = world.store.require_deployment("m").revision
    assert await world.post("/v2/repository/models/m/load", b'{"parameters": {}}') == (200, None)
    assert world.store.require_deployment("m").revision == before


async def test_unload_may_have_parameters_as_tritons_clients_send_them(world: World) -> None:
    asked = asyncio.create_task(
        world.post(
            "/v2/repository/models/m/unload", b'{"parameters": {"unload_dependents": false}}'
        )
    )
    while not asked.done():
        world.follow_store()
        await asyncio.sleep(0.01)
    assert await asked == (200, None)


async def test_a_load_that_no_replica_follows_is_told_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = desired_state.set_loaded(world.store, "m", loaded=False)
    with pytest.raises(desired_state.RetryLater, match=r"model 'm' is not unloaded after 0.05 s"):
        await desired_state.until_applied(lambda: world.batcher.table, wanted, patience_s=0.05)


async def test_a_load_that_fails_says_why(world: World, tmp_path: Path) -> None:
    await world.followed("/v2/repository/models/m/unload")
    broken = world.store.require_deployment("m")
    moved = tuple(
        ServedVersion(v.version, str(tmp_path / "gone"), v.signature) for v in broken.versions
    )
    world.store.put_deployment(
        Deployment(broken.model, moved, broken.split, broken.revision, loaded=False)
    )
    status, document = await world.followed("/v2/repository/models/m/load")
    assert status == 503
    assert document["error"].startswith("model 'm' could not be loaded: there is no model file")


async def test_statistics_of_all_of_a_model_and_of_a_version(world: World) -> None:
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [1, 2]}]}'
    await world.post("/v2/models/m/infer", body)
    for path in ("/v2/models/stats", "/v2/models/m/stats"):
        status, document = await world.get(path)
        counts = {e["version"]: e["inference_count"] for e in document["model_stats"]}
        assert (status, counts) == (200, {"1": 2, "2": 0, "3": 0})
    _, document = await world.get("/v2/models/m/versions/2/stats")
    assert [e["version"] for e in document["model_stats"]] == ["2"]


async def test_metrics_are_prometheus_text(world: World) -> None:
    await world.post("/v2/models/n/infer", b"{}")
    answer = await world.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert 'driftloop_request_failures_total{reason="NotFound",' in answer.text


async def test_infer_behind_an_encoded_url_is_answered_too(world: World) -> None:
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.5]}]}'
    answer = await world.http.post(
        "/v2/models/%6d/versions/2/infer", content=body, headers={"x-prediction-id": "order-17"}
    )
    assert answer.json()["outputs"][0]["data"] == [3.0]
    assert answer.headers["x-prediction-id"] == "order-17"
    assert answer.headers["x-model-version"] == "2"


async def test_binary_answers_say_the_length_of_their_json(world: World) -> None:
    answer = await world.http.post(
        "/v2/models/m/infer",
        content=np.float32([1.5]).tobytes(),
        headers={"inference-header-content-length": "0"},
    )
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    assert np.frombuffer(answer.content[length:], np.float32).tolist() == [3.0]


async def test_v1_predicts(world: World) -> None:
    body = b'{"instances": [[1.0], [2.0]]}'
    for path in ("/v1/models/m:predict", "/v1/models/m/versions/2:predict"):
        assert await world.post(path, body) == (200, {"predictions": [[2.0], [4.0]]})


async def test_labels_go_into_the_spool(world: World, tmp_path: Path) -> None:
    body = b'[{"prediction_id": "p", "label": [1, 0]}, {"prediction_id": "q", "label": "yes"}]'
    assert await world.post("/feedback", body) == (200, {"accepted": 3})
    labels = SpoolReader(tmp_path / "spool" / world.spool.replica).read(1 << 20).labels
    assert [(record.prediction_id, record.rows) for record in labels] == [("p", 2), ("q", 1)]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("GET", "/nowhere", b"", 404, "no such URL: /nowhere"),
        ("GET", "/v2/models/n", b"", 404, "unknown model 'n'; known: m"),
        ("GET", "/v2/models/m/versions/9", b"", 404, "unknown version '9' of model 'm'"),
        ("GET", "/v2/models/m/versions/x/ready", b"", 404, "unknown version 'x'"),
        ("GET", "/v2/models/m/versions/¹/config", b"", 404, "unknown version"),
        ("GET", "/v2/models/n/ready", b"", 404, "unknown model"),
        ("GET", "/v2/models/n/config", b"", 404, "unknown model"),
        ("GET", "/v2/models/n/stats", b"", 404, "unknown model"),
        ("GET", "/v2/models/m/versions/9/stats", b"", 404, "unknown version"),
        ("GET", "/v1/models/n", b"", 404, "unknown model"),
        ("PUT", "/v2/models/m", b"", 405, "PUT is not allowed at /v2/models/m"),
        ("GET", "/v2/models/m/infer", b"", 405, "GET is not allowed at"),
        ("POST", "/v2/models/m/infer", b"{", 400, ""),
        ("POST", "/v2/models/m/infer", b" " * (BODY_LIMIT + 1), 413, "the body is over"),
        ("POST", "/v2/models/n/infer", b"{}", 404, "unknown model"),
        ("POST", "/v1/models/n:predict", b"{}", 404, "unknown model"),
        ("POST", "/v2/repository/index", b"{", 400, "the body"),
        ("POST", "/v2/repository/index", b"[]", 400, "the body"),
        ("POST", "/v2/repository/index", b'{"ready": 7}', 400, "ready: "),
        ("POST", "/v2/repository/index", b" " * 70_000, 413, "the body is over"),
        ("POST", "/v2/repository/models/n/load", b"", 404, "model 'n' is not deployed; known: m"),
        ("POST", "/v2/repository/models/n/unload", b"", 404, "model 'n' is not deployed"),
        (
            "POST",
            "/v2/repository/models/m/load",
            b'{"parameters": {"config": "{}"}}',
            400,
            "no param",
        ),
        ("POST", "/feedback", b"{", 400, "feedback: the body is not valid JSON"),
        ("POST", "/feedback", b"7", 400, "feedback: "),
        ("POST", "/feedback", b'{"prediction_id": "p"}', 400, "feedback: "),
        ("POST", "/feedback", b" " * (BODY_LIMIT + 1), 413, "the body is over"),
    ],
)
async def test_errors_are_a_status_and_a_sentence(
    world: World, method: str, path: str, body: bytes, status: int, says: str
) -> None:
    answer = await world.http.request(method, path, content=body)
    assert (answer.status_code, set(answer.json())) == (status, {"error"})
    assert says in answer.json()["error"]


@pytest.mark.parametrize(
    ("header", "given"),
    [
        ("x-prediction-id", "a b"),
        ("x-prediction-id", "x" * 129),
        ("inference-header-content-length", "-1"),
        ("inference-header-content-length", "9" * 30),
    ],
)
async def test_headers_that_cannot_be_are_refused(world: World, header: str, given: str) -> None:
    status, document = await world.post("/v2/models/m/infer", b"{}", **{header: given})
    assert status == 400
    assert header in document["error"].lower()


async def test_a_wrong_method_is_told_the_right_one(world: World) -> None:
    answer = await world.http.put("/v2/models/m")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_what_to_try_again_says_when(world: World) -> None:
    answer = await world.http.post("/v2/models/m/versions/3/infer", content=b"{}")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_the_description_names_every_url_and_all_of_its_references_resolve(
    world: World,
) -> None:
    _, document = await world.get("/openapi.json")
    assert {
        "/v2",
        "/v2/health/ready",
        "/v2/models/{model}/versions/{version}/infer",
        "/v1/models/{model}:predict",
        "/v2/models/{model}/stats",
        "/v2/models/{model}/config",
        "/v2/repository/models/{model}/unload",
        "/feedback",
        "/metrics",
    } <= set(document["paths"])
    names = set(document["components"]["schemas"])
    assert {ref.rpartition("/")[2] for ref in _references(document)} <= names
    statuses = {
        status
        for path in document["paths"].values()
        for operation in path.values()
        for status in operation["responses"]
    }
    assert "422" not in statuses


def _references(document: Any) -> list[str]:
    if isinstance(document, list):
        return [ref for item in document for ref in _references(item)]
    if isinstance(document, dict):
        own = [document["$ref"]] if isinstance(document.get("$ref"), str) else []
        return own + [ref for item in document.values() for ref in _references(item)]
    return []


def test_every_url_without_a_models_name_in_its_place_is_a_reserved_name() -> None:
    """Otherwise a model with that name could not be reached by every URL."""
    not_used: Any = None
    app = make_rest_api(not_used, not_used, not_used, not_used, body_limit_bytes=1)
    paths = {route.path for route in app.routes if isinstance(route, APIRoute)}
    places = {path.partition("{model}")[0] for path in paths if "{model}" in path}
    fixed = {
        path.removeprefix(place).partition("/")[0]
        for path in paths
        for place in places
        if path.startswith(place) and not path.startswith(place + "{")
    }
    assert fixed <= RESERVED
    for name in RESERVED:
        with pytest.raises(errors.Rejected, match="reserved"):
            check_new_name(name)
