"""Alerts in the store. At most one per model and cause is open; later findings are attached to
it."""

from collections.abc import Iterable
from datetime import datetime

import structlog

from driftloop_contracts.alert import MAX_FINDINGS, Alert, AlertEvent
from driftloop_contracts.judgement import CheckKind
from driftloop_monitoring.state.alert_actions import AlertAction, CloseAlerts, RaiseAlert
from driftloop_store.store import Store

log = structlog.get_logger()


def open_alerts(store: Store, model: str, kind: CheckKind | None = None) -> list[Alert]:
    """Return the model's alerts (of one kind) that are not closed, oldest first, without those
    about failing roles."""
    return [
        alert
        for alert in store.open_alerts(model)
        if alert.kind is not CheckKind.ROLE and kind in (None, alert.kind)
    ]


def apply(store: Store, model: str, actions: Iterable[AlertAction], now: datetime) -> None:
    """Apply the actions in order. Repeating them changes nothing."""
    for action in actions:
        if isinstance(action, CloseAlerts):
            _close(store, model, action.kind)
        else:
            _raise_or_attach(store, model, action, now)


def _raise_or_attach(store: Store, model: str, action: RaiseAlert, now: datetime) -> None:
    """Raise the alert or attach findings to it. Does nothing if the alert exists and is closed."""
    first = action.findings[0]
    ids = tuple(f.finding_id for f in action.findings)
    for alert in open_alerts(store, model, first.kind):
        if not alert.holds(ids):
            store.change_alert(alert.id, lambda fresh: fresh.attach(ids))
        return
    store.raise_alert(
        Alert(
            id=action.alert_id,
            model=model,
            at=now,
            kind=first.kind,
            severity=first.severity,
            message=action.message,
            version=first.version,
            findings=ids[:MAX_FINDINGS],
            window=first.window_id,
            change_at=action.since,
        )
    )
    log.warning("monitor.alert", alert_id=action.alert_id, model=model, message=action.message)


def _close(store: Store, model: str, kind: CheckKind | None) -> None:
    for alert in open_alerts(store, model, kind):
        store.change_alert(alert.id, lambda fresh: fresh.after(AlertEvent.CLOSE))
        log.info("monitor.alert_closed", alert_id=alert.id, model=model)
