"""The pages as the gateway serves them, over a store with models in every state."""

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from console_records import NOW, alert
from fastapi.testclient import TestClient

from driftloop_cli.metrics_view import metrics_view
from driftloop_console.assets import STATIC
from driftloop_console.changes_feed import tokens
from driftloop_console.context import ConsoleContext
from driftloop_gateway.app import GatewayContext, make_app
from driftloop_rollout.machine import Rollout
from driftloop_settings import Settings
from driftloop_store import Store

NOT_USED: Any = None
PAGES = (
    "/", "/models/alert", "/models/watching?last=24h", "/models/unwatched", "/models/canary",
    "/models/canary/versions/2", "/rollouts/canary-rollout", "/retrains/retraining-retrain",
    "/incidents", "/incidents/incident", "/decisions", "/audit", "/settings", "/system",
)  # fmt: skip


@pytest.fixture
def client(store: Store, tmp_path: Path) -> TestClient:
    context = GatewayContext(
        settings=Settings(state_dir=tmp_path),
        store=store,
        lake=NOT_USED,
        registry=NOT_USED,
        labels=NOT_USED,
        run_state=lambda: None,
        clock=lambda: NOW,
        erase=NOT_USED,
    )
    return TestClient(
        make_app(context), base_url="http://127.0.0.1", headers={"accept": "text/html"}
    )


@pytest.mark.parametrize("url", PAGES)
def test_a_page_answers_under_a_strict_policy_and_without_inline_code(
    client: TestClient, url: str
) -> None:
    answer = client.get(url)
    assert answer.status_code == 200, answer.text
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in answer.text
    assert " style=" not in answer.text
    assert " onclick=" not in answer.text


def test_the_fleet_is_sorted_by_need_for_attention(client: TestClient) -> None:
    rows = client.get("/?format=json").json()
    assert [row["state"] for row in rows] == [
        "alert", "canary", "retraining", "watching", "unwatched", "healthy",
    ]  # fmt: skip
    text = client.get("/?format=csv&sort_models=model").text
    assert [line.split(",")[0] for line in text.splitlines()][:3] == ["model", "alert", "canary"]


def test_hostile_texts_are_shown_as_text(client: TestClient) -> None:
    page = client.get("/models/alert").text
    assert "&lt;script&gt;alert" in page


def test_a_page_of_a_model_that_is_gone_leads_back(client: TestClient, store: Store) -> None:
    store.remove_deployment("healthy")
    for url in ("/models/healthy", "/models/canary/versions/99", "/rollouts/x", "/nowhere"):
        answer = client.get(url)
        assert answer.status_code == 404, url
        assert '<a href="/">Back to the fleet</a>' in answer.text
    assert client.get("/api/nowhere").json() == {"error": "no such URL: /api/nowhere"}
    programs = client.get("/nowhere", headers={"accept": "*/*"})
    assert programs.json() == {"error": "no such URL: /nowhere"}


@pytest.mark.parametrize("query", ["sort_windows=x", "last=x", "format=xml", "format=csv&table=x"])
def test_a_url_that_makes_no_sense_is_explained(client: TestClient, query: str) -> None:
    answer = client.get(f"/models/alert?{query}")
    assert (answer.status_code, "Back to the fleet" in answer.text) == (400, True)


def test_an_empty_store_says_what_to_do_next(client: TestClient, store: Store) -> None:
    for deployment in store.deployments():
        store.remove_deployment(deployment.model.name)
    assert "driftloop deploy" in client.get("/").text


def test_of_two_operators_the_second_is_told_what_happened(
    client: TestClient, store: Store
) -> None:
    seen = {"seen": "running", "reason": "lunch"}
    first = client.post("/rollouts/canary-rollout/pause", json=seen)
    assert (first.status_code, first.text) == (200, "Done: an operator (console) paused it.")
    second = client.post("/rollouts/canary-rollout/abort", json=seen)
    assert second.status_code == 409
    assert second.text == (
        "Nothing was done: an operator (console) paused it at 2026-11-29 12:00:00 UTC. The "
        "rollout is now paused; look at it again before you abort it."
    )
    assert store.rollout("canary-rollout")["state"] == "paused"
    assert [entry["action"] for entry in store.audits()] == ["pause"]
    page = client.get("/rollouts/canary-rollout").text
    assert "/rollouts/canary-rollout/resume" in page
    assert "/rollouts/canary-rollout/pause" not in page


def test_a_promotion_that_waits_is_approved_on_its_page_and_audited(
    client: TestClient, store: Store
) -> None:
    assert "/rollouts/canary-rollout/approve" not in client.get("/rollouts/canary-rollout").text
    record = store.rollout("canary-rollout")
    waits = {**Rollout.from_record(record).to_body(), "awaits": "promote"}
    store.save_rollout("canary-rollout", record["revision"], "running", waits)
    page = client.get("/rollouts/canary-rollout").text
    assert "/rollouts/canary-rollout/approve" in page
    assert "Waits for a person to approve" in page
    told = client.post("/rollouts/canary-rollout/approve", json={"seen": "running"})
    assert told.text == "Done: an operator (console) approved what waited for a person."
    assert store.rollout("canary-rollout")["approved"] == ["promote"]
    assert [entry["action"] for entry in store.audits()] == ["approve"]


def test_a_form_of_another_page_cannot_steer(client: TestClient) -> None:
    form = client.post("/rollouts/canary-rollout/pause", data={"seen": "running"})
    assert form.status_code == 415
    foreign = client.post(
        "/rollouts/canary-rollout/pause",
        json={"seen": "running"},
        headers={"origin": "https://evil.example"},
    )
    assert foreign.status_code == 403


def test_an_incident_is_acknowledged_once(client: TestClient, store: Store) -> None:
    path = "/incidents/incident/ack"
    assert "acknowledged" in client.post(path, json={"seen": "open"}).text
    second = client.post(path, json={"seen": "open"})
    assert second.status_code == 409
    assert second.text.startswith(
        "Nothing was done: the incident is acknowledged by an operator (console) since 2026-11-29"
    )
    assert [event["event"] for event in store.incident_events("incident")][-1] == "acknowledge"
    (row,) = client.get("/incidents?format=json&table=incidents").json()
    assert (row["state"], row["urgency"]) == ("acknowledged", "page")


def test_a_retrain_is_cancelled_once(client: TestClient) -> None:
    path = "/retrains/retraining-retrain/cancel"
    assert client.post(path, json={"seen": "running"}).status_code == 200
    assert client.post(path, json={"seen": "running"}).status_code == 409


def test_the_evidence_of_a_rollout_stands_against_both_thresholds(client: TestClient) -> None:
    rows = client.get("/rollouts/canary-rollout?format=json&table=evidence").json()
    assert [(row["metric"], row["harm_at"], row["proof_at"]) for row in rows] == [
        ("quality", 300.0, 100.0), ("errors", 300.0, 20.0), ("latency", 300.0, 20.0),
    ]  # fmt: skip
    assert client.get("/rollouts/canary-rollout").text.count("data-chart=") == 3


def test_the_parts_of_a_page_are_few_files_with_long_lives(client: TestClient) -> None:
    page = client.get("/").text
    files = [part.split('"')[0] for part in page.split('="/console/')[1:]]
    assert len(files) == 2
    for name in files:
        answer = client.get(f"/console/{name}")
        assert "immutable" in answer.headers["cache-control"]
    assert client.get("/console/0000/console.js").status_code == 404


def test_vendored_files_are_those_of_their_packages() -> None:
    written = tomllib.loads((STATIC / "vendor" / "vendor.toml").read_text())
    files = {p.name for p in (STATIC / "vendor").iterdir() if p.suffix in (".js", ".css")}
    assert files == set(written)
    for name, of in written.items():
        content = (STATIC / "vendor" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == of["sha256"], name
    assert len(list((STATIC / "vendor").glob("*.LICENSE"))) == 3


def test_the_change_of_a_record_moves_its_models_token_only(store: Store, tmp_path: Path) -> None:
    context = ConsoleContext(Settings(state_dir=tmp_path), store, lambda: None, lambda: NOW)
    before = tokens(context)
    assert tokens(context) == before
    store.raise_alert(alert("healthy"))
    after = tokens(context)
    one, other = frozenset({"healthy"}), frozenset({"canary"})
    assert after.records_of(one) != before.records_of(one)
    assert after.records_of(other) == before.records_of(other)
    assert after.records_of(None) != before.records_of(None)
    store.put_ledger("replica-1", "canary", 1, served=1, acked=1, spooled=0, dropped={})
    assert tokens(context).traffic_of(other) != after.traffic_of(other)


def test_charts_are_data_that_a_browser_can_read(client: TestClient) -> None:
    page = client.get("/models/watching").text
    documents = [part.split('"')[0] for part in page.split('data-chart="')[1:]]
    charts = [json.loads(d.replace("&#34;", '"').replace("&gt;", ">")) for d in documents]
    # The error of each window, the error so far with its bounds, and two columns.
    assert [chart["small"] for chart in charts] == [False, False, True, True]
    for chart in charts[:2]:
        assert {len(series["values"]) for series in chart["series"]} == {48}


def test_the_audit_page_says_who_did_what(client: TestClient, store: Store) -> None:
    reason = '<script>alert("x")</script>'
    store.audit("alice", "abort", {"rollout": "canary-rollout", "reason": reason, "by": None})
    store.audit("operator", "retrain", {"model": "healthy", "recipes": []})
    newest, older = client.get("/audit?format=json").json()
    assert (newest["actor"], newest["model"], newest["detail"]) == ("operator", "healthy", "")
    assert older["detail"] == f"rollout: canary-rollout; reason: {reason}"
    page = client.get("/audit").text
    assert "&lt;script&gt;alert" in page
    assert 'href="/models/healthy"' in page
    assert len(client.get("/audit?format=json&last=1h").json()) == 2
    assert client.get("/audit?format=json&to=2026-01-01").json() == []


MEASURED = {
    "version": 1,
    "rows": 400,
    "since": "2026-11-24T10:00:00+00:00",
    "until": "2026-11-24T11:00:00+00:00",
    "outputs": [
        {
            "output": "amount", "label": "sum", "rows": 400,
            "metrics": {"mae": [9.5, None, None]}, "classes": [], "confusion": [],
        },
        {
            "output": "label", "label": None, "rows": 400,
            "metrics": {"f1": [0.8125, 0.7, 0.9]},
            "classes": ["no", "yes"], "confusion": [[300, 20], [0, 80]],
        },
    ],
}  # fmt: skip


def test_the_metrics_of_labelled_rows_are_on_the_models_page_and_in_the_api(
    client: TestClient, store: Store
) -> None:
    nothing = client.get("/api/models/watching/metrics").json()
    assert (nothing["rows"], nothing["outputs"], nothing["judged_by"]) == (0, [], "error")
    assert "No metrics yet" in client.get("/models/watching").text
    state = store.monitor_states("watching")["watching"]
    store.put_cursor("monitor/watching", {**state, "measured": MEASURED})
    assert client.get("/api/models/watching/metrics").json()["outputs"] == MEASURED["outputs"]
    page = client.get("/models/watching").text
    assert "Judged by error. Of the newest 400 labelled rows of version 1" in page
    for text in ("f1", "0.8125", "amount (label sum)", "Labels and answers", "6.2"):
        assert text in page, text
    assert client.get("/api/models/nobody/metrics").status_code == 404


def test_the_metrics_are_shown_by_the_command() -> None:
    document = {"judged_by": "error; guardrails: brier", **MEASURED}
    text = "\n".join(line.plain for line in metrics_view(document, None))
    assert text.startswith("judged by error; guardrails: brier\nversion 1, 400 labelled rows")
    for part in ("amount (label sum)", "0.7 to 0.9", "label \\ answer"):
        assert part in text, part
    (_, why) = metrics_view({"judged_by": "error", "rows": 0, "outputs": []}, None)
    assert "they need labelled rows" in why.plain
