"""The records of all models are read anew only of those that changed, and are the same as if all
were read."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from console_records import NOW, alert, drift, monitor_state, waited, window

from driftloop_console.fleet_records import FleetRecords
from driftloop_contracts.alert import AlertEvent
from driftloop_contracts.health import Degraded
from driftloop_settings import Settings
from driftloop_store import Store

HEALTHY = "healthy"
CHANGES: dict[str, Callable[[Store], object]] = {
    "a window": lambda store: store.add_window(window(HEALTHY, -1)),
    "an alert": lambda store: store.raise_alert(alert(HEALTHY)),
    "an alert that is closed": lambda store: store.change_alert(
        store.open_alerts()[0].id, lambda one: one.after(AlertEvent.CLOSE)
    ),
    "a decision": lambda store: store.add_decision(waited(HEALTHY, -1)),
    "a finding": lambda store: store.add_finding(drift(HEALTHY, -1, "income")),
    "rows served": lambda store: store.put_ledger(
        "replica-1", HEALTHY, 1, served=7_000_000, acked=6_000_000, spooled=1_000_000, dropped={}
    ),
    "the monitor's state": lambda store: store.put_cursor(
        f"monitor/{HEALTHY}", {**monitor_state(NOW), "drifted": ["income"]}, HEALTHY
    ),
    "a cycle that fails": lambda store: store.put_degraded(
        Degraded("monitor", NOW - timedelta(minutes=5), "no lake", HEALTHY)
    ),
    "a deployment": lambda store: store.put_deployment(store.require_deployment(HEALTHY)),
    "a model that is removed": lambda store: store.remove_deployment(HEALTHY),
    "nothing": lambda store: None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_kept_equals_what_is_read_anew(store: Store, change: str) -> None:
    kept = FleetRecords(Settings(), store)
    kept.all()
    CHANGES[change](store)
    assert list(kept.all()) == list(FleetRecords(Settings(), store).all())


def test_the_records_of_a_model_that_did_not_change_are_not_read_again(store: Store) -> None:
    fleet = FleetRecords(Settings(), store)
    fleet.all()
    assert _asked(store, fleet) == []
    store.raise_alert(alert(HEALTHY))
    windows = [given for text, given in _asked(store, fleet) if "FROM windows" in text]
    assert HEALTHY in str(windows)
    assert "canary" not in str(windows)


def _asked(store: Store, fleet: FleetRecords) -> list[tuple[str, object]]:
    """The statements beyond the one that tells whether anything changed."""
    asked: list[tuple[str, object]] = []

    def note(_c: object, _cursor: object, text: str, given: object, *_: object) -> None:
        asked.append((text, given))

    sa.event.listen(store._engine, "before_cursor_execute", note)
    try:
        fleet.all()
    finally:
        sa.event.remove(store._engine, "before_cursor_execute", note)
    return [(text, given) for text, given in asked if text != "BEGIN" and "sum(changes" not in text]
