"""The control API's actions on records with a life: the JSON they answer, and what is refused."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alert_cases import performance_alert
from fastapi.testclient import TestClient

from driftloop_contracts.alert import AlertEvent
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.retrain import Retrain, RetrainEvent
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_gateway.app import GatewayContext, make_app
from driftloop_settings import Settings
from driftloop_store import Store, open_store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TENSOR = TensorSpec("x", "FP32", (-1, 1))
SERVED = ServedVersion(1, "somewhere", Signature((TENSOR,), (TENSOR,)))
NOT_USED: Any = None
ALERT = performance_alert(NOW)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    opened.put_deployment(Deployment(ModelSpec("m"), (SERVED,), TrafficSplit(1)))
    yield opened
    opened.close()


@pytest.fixture
def erased() -> list[str]:
    """The models whose rows were deleted from the lake."""
    return []


@pytest.fixture
def client(store: Store, tmp_path: Path, erased: list[str]) -> TestClient:
    context = GatewayContext(
        settings=Settings(state_dir=tmp_path),
        store=store,
        lake=NOT_USED,
        registry=NOT_USED,
        labels=NOT_USED,
        run_state=lambda: None,
        clock=lambda: NOW,
        erase=erased.append,
        unload_s=0.2,
    )
    json = {"content-type": "application/json"}
    return TestClient(make_app(context), base_url="http://127.0.0.1", headers=json)


def ask(client: TestClient) -> dict[str, Any]:
    wanted = {"model": "m", "reason": "because", "recipes": ["gradient-boosting"]}
    return dict(client.post("/api/retrains", json=wanted).json())


def test_a_retrain_that_is_asked_for_answers_with_its_record(client: TestClient) -> None:
    record = ask(client)
    assert (record["model"], record["state"], record["at"]) == ("m", "requested", NOW.isoformat())
    assert (record["trigger"], record["reason"], record["champion"]) == ("operator", "because", 1)
    assert (record["recipes"], record["change_at"]) == (["gradient-boosting"], None)
    assert client.get("/api/retrains").json() == [record]


def test_a_second_retrain_is_refused_while_one_is_active(client: TestClient) -> None:
    first = ask(client)
    again = client.post("/api/retrains", json={"model": "m", "recipes": ["gradient-boosting"]})
    assert again.status_code == 409
    assert first["id"] in again.json()["error"]


def test_a_retrain_that_is_over_is_not_cancelled(client: TestClient) -> None:
    path = f"/api/retrains/{ask(client)['id']}/cancel"
    assert client.post(path).json()["state"] == "cancelled"
    assert client.post(path).status_code == 409
    assert [entry["action"] for entry in client.get("/api/audit").json()] == [
        "cancel-retrain",
        "retrain",
    ]


def test_an_unknown_retrain_is_not_found(client: TestClient) -> None:
    assert client.post("/api/retrains/x/cancel").status_code == 404


def test_an_open_alert_is_acknowledged_and_a_closed_one_is_not(
    client: TestClient, store: Store
) -> None:
    store.raise_alert(ALERT)
    acknowledged = client.post("/api/alerts/a/ack")
    assert acknowledged.json() == {"id": "a", "state": "acknowledged"}
    store.change_alert("a", lambda alert: alert.after(AlertEvent.CLOSE))
    assert client.post("/api/alerts/a/ack").status_code == 409
    (alert,) = client.get("/api/alerts").json()
    assert (alert["state"], alert["kind"], alert["message"]) == ("closed", "performance", "worse")


def test_an_ended_retrain_shows_what_it_gave(client: TestClient, store: Store) -> None:
    store.request_retrain(Retrain(id="r", model="m", at=NOW))
    for event in (RetrainEvent.START, RetrainEvent.SUCCEED):
        store.change_retrain("r", lambda retrain, event=event: retrain.after(event))
    (record,) = client.get("/api/retrains").json()
    assert (record["state"], record["revision"]) == ("succeeded", 3)


def test_a_removed_model_is_not_served_and_what_ran_of_it_ends(
    client: TestClient, store: Store, erased: list[str]
) -> None:
    retrain = ask(client)["id"]
    rollout = store.request_rollout("r", replace(SERVED, version=2), "m", NOW, "")["id"]
    store.raise_alert(ALERT)
    answer = client.delete("/api/models/m")
    assert answer.json() == {
        "model": "m", "lake": "kept", "retrains": [retrain], "unloaded": True,
    }  # fmt: skip
    assert client.get("/api/models").json() == []
    assert store.retrain(retrain).state == "cancelled"
    assert store.rollout(rollout)["state"] == "aborted"
    assert [alert.state for alert in store.alerts("m")] == ["closed"]
    assert erased == []
    assert client.delete("/api/models/m").status_code == 404


def test_a_removal_is_answered_when_replicas_have_ceased_to_answer_for_the_model(
    client: TestClient, store: Store
) -> None:
    store.put_answered_models(["m", "other"])
    applied = threading.Timer(0.05, store.put_answered_models, [["other"]])
    applied.start()
    assert client.delete("/api/models/m").json()["unloaded"] is True
    assert store.answered_models() == {"other"}
    applied.join()


def test_a_removal_that_replicas_do_not_apply_says_so(client: TestClient, store: Store) -> None:
    store.put_answered_models(["m"])
    assert client.delete("/api/models/m").json()["unloaded"] is False
    assert client.get("/api/models").json() == []


def test_its_rows_are_deleted_only_if_that_is_asked_for(
    client: TestClient, store: Store, erased: list[str]
) -> None:
    assert client.delete("/api/models/nobody?delete_data=true").status_code == 404
    client.delete("/api/models/m")
    assert client.delete("/api/models/m?delete_data=true").json()["lake"] == "deleted"
    assert erased == ["m"]
    assert store.erased_at("m") == NOW


def test_rows_that_are_under_way_when_a_model_is_removed_are_still_known(store: Store) -> None:
    store.remove_deployment("m")
    assert store.known_models() == ["m"]
    again = store.put_deployment(Deployment(ModelSpec("m"), (SERVED,), TrafficSplit(1)))
    assert again.revision == 2  # replicas tell it from the one they held


def test_a_report_runs_in_a_sandbox(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "a.html").write_text("<script>top.location</script>")
    headers = client.get("/api/reports/a.html").headers
    assert headers["content-security-policy"].startswith(
        "sandbox allow-scripts; default-src 'none'"
    )
    assert "allow-same-origin" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_what_a_form_of_a_page_can_send_changes_nothing(client: TestClient) -> None:
    for kind in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded"):
        answer = client.delete("/api/models/m", headers={"content-type": kind})
        assert answer.status_code == 415
    assert client.get("/api/models", headers={"host": "evil.example"}).status_code == 403
