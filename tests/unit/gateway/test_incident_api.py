"""Incidents in the control API: two operators at once, tests of routes, and what is secret."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alert_cases import performance_alert
from fastapi.testclient import TestClient
from incident_cases import incident_of

from driftloop_contracts.incident import IncidentChange
from driftloop_gateway.app import GatewayContext, make_app
from driftloop_settings import Settings
from driftloop_store import Store, open_store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NOT_USED: Any = None
ROUTES = (
    {"name": "night", "to": "https://hooks.example/secret", "models": ["loans*"]},
    {"name": "day", "to": "slack://hooks.slack.com/secret", "severity": "digest"},
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    opened.raise_alert(performance_alert(NOW))
    opened.write_incidents([IncidentChange(incident_of(NOW, evidence={"alert": "a"}), "opened")])
    yield opened
    opened.close()


@pytest.fixture
def client(store: Store, tmp_path: Path) -> TestClient:
    context = GatewayContext(
        settings=Settings(state_dir=tmp_path, alerts={"routes": ROUTES}),  # type: ignore[arg-type]
        store=store,
        lake=NOT_USED,
        registry=NOT_USED,
        labels=NOT_USED,
        run_state=lambda: None,
        clock=lambda: NOW,
        erase=NOT_USED,
    )
    json = {"content-type": "application/json"}
    return TestClient(make_app(context), base_url="http://127.0.0.1", headers=json)


def test_an_acknowledgement_is_one_persons_and_reaches_the_alert(
    client: TestClient, store: Store
) -> None:
    first = client.post("/api/incidents/i/ack", json={"actor": "alice", "reason": "mine"})
    second = client.post("/api/incidents/i/ack", json={"actor": "bob"})
    assert (first.status_code, first.json()["state"]) == (200, "acknowledged")
    assert second.status_code == 409
    assert "acknowledged by alice at 2026-11-24 12:00 UTC" in second.json()["error"]
    assert [alert.state for alert in store.alerts()] == ["acknowledged"]
    assert store.audits()[0]["actor"] == "alice"


def test_an_incident_has_its_history_and_is_listed_until_it_is_resolved(client: TestClient) -> None:
    client.post("/api/incidents/i/silence", json={"for_s": 3600, "actor": "alice"})
    shown = client.get("/api/incidents/i").json()
    assert [event["event"] for event in shown["history"]] == ["opened", "silence"]
    assert shown["silenced_until"] == "2026-11-24T13:00:00+00:00"
    (listed,) = client.get("/api/incidents", params={"unresolved": True, "model": "m"}).json()
    assert listed["message"] == "The error of m rose. A retrain starts by itself."
    assert client.get("/api/incidents", params={"model": "n"}).json() == []
    assert client.get("/api/incidents/x").status_code == 404


@pytest.mark.parametrize("for_s", [0, -1, 1e12, "x"])
def test_a_silence_of_an_impossible_length_is_refused(client: TestClient, for_s: object) -> None:
    assert client.post("/api/incidents/i/silence", json={"for_s": for_s}).status_code == 400


def test_a_test_waits_for_its_route_and_a_second_one_is_refused(
    client: TestClient, store: Store
) -> None:
    assert client.post("/api/routes/test", json={"route": "night"}).status_code == 200
    assert [notice.route for notice in store.waiting_notices()] == ["night"]
    assert client.post("/api/routes/test", json={"route": "night"}).status_code == 409
    assert "there are: night, day" in client.post("/api/routes/test", json={"route": "x"}).text


def test_it_is_explained_which_routes_take_an_incident(client: TestClient) -> None:
    asked = {"model": "cards", "cause": "drift"}
    night, day = client.get("/api/routes/explain", params=asked).json()
    assert (night["takes"], night["why"]) == (
        False,
        "it takes ticket and above, this is digest",
    )
    assert day["takes"]
    assert "sent at 2026-11-25 09:00 UTC" in day["why"]
    asked = {"model": "cards", "cause": "rollback"}
    night, day = client.get("/api/routes/explain", params=asked).json()
    assert night["why"] == "it is for the models loans*"
    assert day["why"].startswith("sent at once")
    assert client.get("/api/routes/explain", params={**asked, "cause": "x"}).status_code == 400


def test_the_addresses_of_routes_are_secret(client: TestClient) -> None:
    shown = client.get("/api/routes")
    assert [route["name"] for route in shown.json()] == ["night", "day"]
    assert "secret" not in shown.text
