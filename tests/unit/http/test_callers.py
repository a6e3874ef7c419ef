"""Requests that a page of another site makes a browser on this machine send."""

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from driftloop_http.callers import REMEMBERED, Callers
from driftloop_http.request_guard import RequestGuard

OWN = ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "app.localhost", "127.1.2.3"]
FOREIGN = [
    "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example",
    "10.0.0.1:8000", "[2001:db8::1]", "", "[", "@localhost", "localhost@evil.example", "box:8000",
]  # fmt: skip


@pytest.mark.parametrize("host", OWN)
def test_a_stack_is_called_by_loopback(host: str) -> None:
    assert Callers().refusal(host.encode(), None) is None


@pytest.mark.parametrize("host", FOREIGN)
def test_a_name_that_resolves_to_this_machine_is_not_enough(host: str) -> None:
    callers = Callers()
    for _ in range(2):  # remembered, too
        assert callers.refusal(host.encode(), None) is not None


def test_names_can_be_said_and_an_open_port_takes_any_address() -> None:
    assert Callers(["box"]).refusal(b"BOX:8000", None) is None
    assert Callers(is_open=True).refusal(b"10.0.0.1:8000", None) is None
    assert Callers(is_open=True).refusal(b"evil.example", None) is not None


@pytest.mark.parametrize(
    ("origin", "taken"),
    [
        ("http://localhost:8000", True), ("http://localhost:3000", False), ("null", False),
        ("http://evil.example", False), ("https://app.example", True), ("", False),
    ],
)  # fmt: skip
def test_a_page_of_another_origin_may_not_call(origin: str, taken: bool) -> None:
    callers = Callers(origins=["https://app.example"])
    assert (callers.refusal(b"localhost:8000", origin.encode()) is None) is taken


@given(st.binary(max_size=80))
def test_no_host_breaks_the_check(host: bytes) -> None:
    Callers().refusal(host, host)


def test_what_clients_choose_fills_no_memory() -> None:
    callers = Callers()
    for number in range(REMEMBERED + 10):
        assert callers.refusal(b"evil%d.example" % number, None) is not None
    assert len(callers._known) <= REMEMBERED


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()

    @app.api_route("/x", methods=["GET", "POST", "PUT", "DELETE", "PATCH"])
    def answer() -> dict[str, bool]:
        return {"ok": True}

    guarded: Any = RequestGuard(app, Callers(), typed=True)
    return TestClient(guarded, base_url="http://127.0.0.1")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH"])
def test_every_method_is_checked(client: TestClient, method: str) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
        answer = client.request(method, "/x", headers=headers)
        assert answer.status_code == 403
        assert method == "HEAD" or "evil.example" in answer.json()["error"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_what_a_form_can_send_changes_nothing(client: TestClient, method: str, kind: str) -> None:
    answer = client.request(method, "/x", headers={"content-type": kind} if kind else {})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]
    json = {"content-type": "application/json; charset=utf-8"}
    assert client.request(method, "/x", headers=json).status_code == 200
    assert client.get("/x").status_code == 200
