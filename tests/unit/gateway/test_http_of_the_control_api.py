"""What the control API understands of HTTP beside its routes, and how it fails."""

import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi.testclient import TestClient
from httpx import Response
from structlog.testing import capture_logs

from driftloop_gateway.app import GatewayContext, make_app
from driftloop_settings import Settings

NOT_USED: Any = None


ORIGIN = "https://app.example"


def client_of(tmp_path: Path, **control: Any) -> TestClient:
    settings = Settings(state_dir=tmp_path, serving={"body_limit_bytes": 100_000}, control=control)
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


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    return client_of(tmp_path)


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


def preflight(client: TestClient, origin: str, headers: str = "content-type") -> Response:
    asked = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": headers,
    }
    return client.options("/api/retrains", headers=asked)


def test_pages_of_named_origins_may_call_and_others_may_not(tmp_path: Path) -> None:
    client = client_of(tmp_path, cors_origins=[ORIGIN])
    allowed = preflight(client, ORIGIN)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in allowed.headers["access-control-allow-methods"]
    simple = client.get("/api/health", headers={"origin": ORIGIN})
    assert simple.headers["access-control-allow-origin"] == ORIGIN
    assert simple.headers["vary"] == "Origin"
    for other in (
        "https://other.example",
        "null",
        "https://app.example.evil",
        "http://app.example",
    ):
        refused = preflight(client, other)
        assert refused.status_code in (400, 403)
        assert "access-control-allow-origin" not in refused.headers
        refused = client.get("/api/health", headers={"origin": other})
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers


def test_without_named_origins_no_page_may_call(client: TestClient) -> None:
    assert preflight(client, ORIGIN).status_code == 403
    assert client.get("/api/health", headers={"origin": ORIGIN}).status_code == 403


def test_no_page_of_the_routes_loads_from_another_host(client: TestClient) -> None:
    for path in ("/api/docs", "/docs", "/redoc"):
        assert client.get(path).status_code == 404
    assert client.get("/api/openapi.json").json()["openapi"]


@pytest.mark.parametrize("limit", ["0", "-1", "10001", "1e3", "99999999999999999999"])
@pytest.mark.parametrize("path", ["alerts", "audit", "incidents", "models/m/windows", "rollouts"])
def test_how_many_records_an_answer_has_is_bounded(
    client: TestClient, path: str, limit: str
) -> None:
    answer = client.get(f"/api/{path}", params={"limit": limit})
    assert (answer.status_code, answer.json()["error"][:7]) == (400, "limit: ")
