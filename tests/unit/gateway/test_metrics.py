"""The control plane's metrics: of models in every state, from a store as weeks leave it."""

from datetime import timedelta

import pytest
from console_records import NOW, deploy, fill, running_retrain, running_rollout
from incident_cases import incident_of
from prometheus_client.parser import text_string_to_metric_families

from driftloop_contracts.alert import AlertEvent
from driftloop_contracts.errors import RetryLater
from driftloop_contracts.health import Degraded, Heartbeat
from driftloop_contracts.incident import IncidentChange
from driftloop_gateway.archiver_lag import EVERY_S, KNOWN_FOR_S, ArchiverLag
from driftloop_gateway.fleet_metrics import MOST_SERIES, condensed
from driftloop_gateway.metrics_reader import MetricsReader
from driftloop_settings import Settings
from driftloop_store import Store

Labels = frozenset[tuple[str, str]]


def reader(store: Store, kept_s: float = 0.0, seconds: list[float] | None = None) -> MetricsReader:
    now = seconds or [0.0]
    lag = {"driftloop.predictions": 12, "driftloop.labels": 0}
    return MetricsReader(Settings(), store, lambda: lag, lambda: NOW, kept_s, lambda: now[-1])


def series(text: bytes) -> dict[tuple[str, Labels], float]:
    return {
        (sample.name.removeprefix("driftloop_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def at(found: dict[tuple[str, Labels], float], name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def test_every_state_of_a_model_is_measured(store: Store) -> None:
    names = list(fill(store))
    store.put_degraded(Degraded("monitor", NOW, "the lake is away", "alert"))
    store.put_heartbeat(Heartbeat("archiver", NOW - timedelta(seconds=9), 300.0, 1))
    found = series(reader(store).render("")[0])
    assert at(found, "models") == len(names)
    assert at(found, "model_error", model="healthy") == pytest.approx(0.08)
    assert at(found, "model_reference_error", model="healthy") == pytest.approx(0.08)
    assert at(found, "model_error", model="unwatched") is None
    assert at(found, "model_drift_effect", model="healthy") == 0.0
    assert at(found, "model_drift_effect", model="watching") == pytest.approx(0.12)
    assert at(found, "model_drifted_columns", model="watching") == 2
    assert at(found, "model_label_lag_seconds", model="healthy") == 40 * 60
    assert at(found, "model_window_end_timestamp_seconds", model="alert") == NOW.timestamp()
    assert at(found, "model_window_judged", model="alert") == 1
    assert at(found, "model_spooled_rows", model="alert") == 7
    assert at(found, "model_gap_rows", model="alert") == 3
    assert at(found, "model_retraining", model="retraining") == 1
    assert at(found, "model_retraining", model="healthy") == 0
    assert at(found, "model_rollout_share", model="canary") == 0.05
    assert at(found, "model_rollout_share", model="healthy") is None
    assert at(found, "model_estimated_error", model="healthy") == pytest.approx(0.082)
    assert at(found, "model_estimated_error", model="unwatched") is None
    assert at(found, "incidents_open", model="alert", severity="page") == 1
    assert at(found, "incidents_open", model="healthy", severity="page") == 0
    assert at(found, "retrains", state="running") == 1
    assert at(found, "rollouts", state="rolled_back") == 0
    assert at(found, "alerts_promised_per_month") == 1.0
    assert at(found, "alerts_last_month") == 1
    assert at(found, "archiver_lag_records", topic="driftloop.predictions") == 12
    assert at(found, "role_degraded", role="monitor") == 1
    assert at(found, "role_degraded", role="archiver") == 0
    assert at(found, "role_heartbeat_timestamp_seconds", role="archiver") == NOW.timestamp() - 9


def test_evidence_of_a_rollout_is_that_of_its_last_point(store: Store) -> None:
    deploy(store, "canary", 1, 2)
    logs = running_rollout(store, "canary").curve[-1].logs
    found = series(reader(store).render("")[0])
    for claim, place in (("worse", 0), ("proof", 1)):
        labels = {"model": "canary", "claim": claim}
        shown = at(found, "model_rollout_log_e", metric="quality", **labels)
        assert shown == pytest.approx(logs["quality"][place], abs=1e-4)


def test_other_metrics_are_condensed_to_what_ends_or_holds_up_a_rollout() -> None:
    logs = {"quality": [0.1, 2.0], "errors": [3.0, 1.0], "latency": [0.5, -1.0], "slice": [0, 9]}
    found = condensed({"curve": [{"logs": {}}, {"logs": logs}]})
    assert found == {"quality": (0.1, 2.0), "others": (3.0, -1.0)}
    assert condensed({"curve": []}) == condensed({}) == condensed(None) == {}
    assert condensed({"curve": [{"logs": {"quality": [1.0, 2.0]}}]}) == {"quality": (1.0, 2.0)}


def test_no_model_has_more_series_than_promised(store: Store) -> None:
    for name in fill(store):
        if name not in ("retraining", "canary"):
            running_retrain(store, name)
            running_rollout(store, name)
    running_retrain(store, "canary")
    running_rollout(store, "retraining")
    found = series(reader(store).render("")[0])
    counts = {
        name: sum(("model", name) in labels for _, labels in found)
        for name in ("healthy", "alert", "canary", "retraining")
    }
    assert set(counts.values()) == {MOST_SERIES}


def test_resolved_incidents_and_older_alerts_do_not_count(store: Store) -> None:
    list(fill(store))
    open_ = incident_of(NOW, id="x", model="")
    store.write_incidents([IncidentChange(open_, "opened")])
    assert at(series(reader(store).render("")[0]), "incidents_open", model="", severity="page") == 1
    late = MetricsReader(Settings(), store, dict, lambda: NOW + timedelta(days=40))
    found = series(late.render("")[0])
    assert at(found, "alerts_last_month") == 0
    assert at(found, "archiver_lag_records", topic="driftloop.labels") is None
    store.change_alert("alert-alert", lambda alert: alert.after(AlertEvent.CLOSE))
    assert at(series(reader(store).render("")[0]), "alerts_last_month") == 1


def test_scrapers_share_one_reading_for_some_seconds(store: Store) -> None:
    seconds = [0.0]
    metrics = reader(store, 5.0, seconds)
    assert at(series(metrics.render("")[0]), "models") == 0
    deploy(store, "new", 1)
    seconds.append(4.9)
    assert at(series(metrics.render("")[0]), "models") == 0
    seconds.append(5.0)
    assert at(series(metrics.render("")[0]), "models") == 1
    text, content_type = metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


class Ends:
    def __init__(self) -> None:
        self.away = False
        self.looks = 0

    def __call__(self, topic: str) -> dict[int, int]:
        self.looks += 1
        if self.away:
            raise RetryLater("no broker")
        return {0: 100, 1: 40}


def lag_of(ends: Ends, archived: dict[int, int], seconds: list[float]) -> ArchiverLag:
    return ArchiverLag(ends, lambda *_: archived, lambda: seconds[-1], lambda look: look())


def test_the_archiver_lag_is_forgotten_while_kafka_is_away() -> None:
    ends, seconds = Ends(), [0.0]
    lag = lag_of(ends, {0: 70, 1: 45}, seconds)  # the lake is asked later, and may be ahead
    assert lag() == {"driftloop.predictions": 30, "driftloop.labels": 30}
    ends.away = True
    seconds.append(KNOWN_FOR_S - 1)
    assert lag() == {"driftloop.predictions": 30, "driftloop.labels": 30}
    seconds.append(KNOWN_FOR_S)
    assert lag() == {}


def test_kafka_is_not_asked_more_often_than_needed() -> None:
    ends, seconds = Ends(), [0.0]
    lag = lag_of(ends, {0: 0, 1: 0}, seconds)
    for second in (1.0, EVERY_S - 1, EVERY_S, EVERY_S + 1):
        lag()
        seconds.append(second)
    lag()
    assert ends.looks == 4  # two topics, twice
