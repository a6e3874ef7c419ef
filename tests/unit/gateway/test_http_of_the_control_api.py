"""What the control API understands of HTTP beside its routes, and how it fails."""

import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from driftloop_gateway.app import GatewayContext, make_app
from driftloop_settings import Settings

NOT_USED: Any = None


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    settings = Settings(state_dir=tmp_path, serving={"body_limit_bytes": 100_000})
    context = GatewayContext(
        settings=settings,
        store=NOT_USED,  # whatever asks it breaks
        lake=NOT_USED,
        registry=NOT_USED,
        labels=NOT_USED,
        run_state=lambda: None,
        clock=NOT_USED,
        erase=NOT_USED,
    )
    return TestClient(make_app(context), "http://localhost", raise_server_exceptions=False)


def retrain(client: TestClient, content: bytes, encoding: str) -> tuple[int, str]:
    headers = {"content-type": "application/json", "content-encoding": encoding}
    answer = client.post("/api/retrains", content=content, headers=headers)
    return answer.status_code, answer.json()["error"]


def test_encoded_bodies_are_decoded_within_the_limit(client: TestClient) -> None:
    wrong = gzip.compress(orjson.dumps({"model": 1}))
    assert retrain(client, wrong, "gzip") == (400, "model: Input should be a valid string")
    bomb = gzip.compress(bytes(10_000_000))
    assert retrain(client, bomb, "gzip") == (413, "the decoded body is over 100000 bytes")
    status, sentence = retrain(client, b"{}", "br")
    assert (status, "send gzip, deflate or none" in sentence) == (415, True)
    assert retrain(client, b"{}", "gzip") == (400, "the body is not valid gzip data")


def test_head_and_options(client: TestClient) -> None:
    assert client.head("/api/health").status_code == 200
    assert client.head("/api/health").content == b""
    assert client.options("/api/rollouts").headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert client.put("/api/retrains", json={}).headers["allow"] == "GET, HEAD, OPTIONS, POST"


def test_what_nobody_foresaw_is_found_in_the_log_by_its_id(client: TestClient) -> None:
    with capture_logs() as logs:
        answer = client.get("/api/models")
    assert answer.status_code == 500
    (event,) = logs
    assert event["event"] == "request.broke"
    assert event["error_id"] in answer.json()["error"]
