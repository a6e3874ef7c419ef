"""What a store forgets and what it keeps, on every database that it runs on."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alert_cases import performance_alert

from driftloop_contracts.alert import AlertEvent
from driftloop_contracts.judgement import Decision
from driftloop_contracts.retrain import Retrain
from driftloop_monitoring.archive.store_retention import StoreRetention
from driftloop_store import Store, open_store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    sqlite = f"sqlite:///{tmp_path / 'store.db'}"
    url = sqlite if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))
    with closing(open_store(url)) as opened:
        yield opened


def decide(store: Store, model: str, *days_ago: int) -> None:
    for age in days_ago:
        store.add_decision(
            Decision(
                decision_id=f"{model}-{age}",
                model=model,
                at=NOW - age * DAY,
                trigger="schedule",
                verdict="no",
                reason="",
                evidence={},
                policy={},
            )
        )


def ages(store: Store, model: str) -> list[int]:
    return [(NOW - datetime.fromisoformat(d["at"])).days for d in store.decisions(model, 1_000)]


def test_old_records_are_forgotten_in_batches(store: Store) -> None:
    decide(store, "m", *range(80, 100))
    before = NOW - 90 * DAY
    assert store.forget(before, most=4) == 4
    while store.forget(before, most=4):
        pass
    assert ages(store, "m") == list(range(80, 91))


def test_the_newest_of_each_model_stays(store: Store) -> None:
    decide(store, "quiet", 400, 300)
    decide(store, "busy", 400, 1)
    StoreRetention(store, 90).step(NOW)
    assert (ages(store, "quiet"), ages(store, "busy")) == ([300], [1])


def test_what_led_to_an_open_record_stays_until_it_is_closed(store: Store) -> None:
    alert = replace(performance_alert(NOW - 200 * DAY), model="alert", change_at=NOW - 201 * DAY)
    store.raise_alert(alert)
    store.request_retrain(Retrain(id="r", model="retrain", at=NOW - 150 * DAY))
    for model in ("alert", "retrain", "free"):
        decide(store, model, 300, 205, 152, 100, 1)
    retention = StoreRetention(store, 90)
    retention.step(NOW)
    assert ages(store, "alert") == [1, 100, 152, 205]
    assert ages(store, "retrain") == [1, 100, 152]
    assert ages(store, "free") == [1]
    store.change_alert(alert.id, lambda found: found.after(AlertEvent.CLOSE))
    retention.step(NOW)
    assert ages(store, "alert") == [1]
    assert [kept.id for kept in store.alerts()] == [alert.id], "the alert itself is kept"


def test_a_number_of_an_event_is_never_given_twice(store: Store) -> None:
    for age in (120, 110, 100):
        store.request_retrain(Retrain(id=f"r{age}", model=f"m{age}", at=NOW - age * DAY))
    newest = store.newest_loop_event()
    StoreRetention(store, 90).step(NOW + 365 * DAY)
    (kept,) = store.loop_events_after(0)
    assert kept["number"] == newest
    store.request_retrain(Retrain(id="r1", model="m1", at=NOW))
    assert store.newest_loop_event() == newest + 1


def test_without_a_limit_everything_is_kept(store: Store) -> None:
    decide(store, "m", 4_000, 1)
    StoreRetention(store, None).step(NOW)
    assert ages(store, "m") == [1, 4_000]
