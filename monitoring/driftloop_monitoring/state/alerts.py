"""Alerts: one open per model and cause, later findings of the cause attach to it."""

from collections.abc import Sequence
from datetime import datetime

import structlog

from driftloop_contracts.alert import MAX_FINDINGS, Alert, AlertEvent, AlertState
from driftloop_contracts.judgement import CheckKind, Finding
from driftloop_monitoring.statistics.performance import Change, LossBaseline
from driftloop_store.store import Store

log = structlog.get_logger()


def open_alerts(store: Store, model: str, kind: CheckKind | None = None) -> list[Alert]:
    """Alerts of a model (of one cause) that are not closed, the newest first."""
    return [
        alert
        for alert in store.alerts(model)
        if alert.state is not AlertState.CLOSED and kind in (None, alert.kind)
    ]


def raise_or_attach(
    store: Store,
    alert_id: str,
    findings: Sequence[Finding],
    message: str,
    *,
    since: datetime,
    now: datetime,
) -> None:
    """Raise the alert of one cause, or attach its findings to the one that is open.

    since: when the rows that it speaks of begin. Does nothing where the alert is known and closed.
    """
    first = findings[0]
    ids = tuple(f.finding_id for f in findings)
    for alert in open_alerts(store, first.model, first.kind):
        if not alert.holds(ids):
            store.change_alert(alert.id, lambda fresh: fresh.attach(ids))
        return
    store.raise_alert(
        Alert(
            id=alert_id,
            model=first.model,
            at=now,
            kind=first.kind,
            severity=first.severity,
            message=message,
            version=first.version,
            findings=ids[:MAX_FINDINGS],
            window=first.window_id,
            change_at=since,
        )
    )
    log.warning("monitor.alert", alert_id=alert_id, model=first.model, message=message)


def close_alerts(store: Store, model: str, kind: CheckKind | None = None) -> None:
    """Close a model's alerts (of one cause): it is gone, or the model has another champion."""
    for alert in open_alerts(store, model, kind):
        store.change_alert(alert.id, lambda fresh: fresh.after(AlertEvent.CLOSE))
        log.info("monitor.alert_closed", alert_id=alert.id, model=model)


def performance_message(
    model: str, version: int, baseline: LossBaseline, change: Change, task: str | None
) -> str:
    """A sentence for people."""
    if task == "generation":
        return (
            f"{model} version {version}: the mean rating fell from {1 - baseline.mean:.1%} to "
            f"{1 - change.mean_loss:.1%}, over {change.rows:,} rated answers since "
            f"{change.at.isoformat(timespec='seconds')}"
        )
    what = "squared error (scaled)" if task == "regression" else "error rate"
    return (
        f"{model} version {version}: the {what} rose from {baseline.mean:.1%} to "
        f"{change.mean_loss:.1%}, over {change.rows:,} labelled rows since "
        f"{change.at.isoformat(timespec='seconds')}"
    )


def quality_message(model: str, version: int, findings: Sequence[Finding]) -> str:
    """A sentence for people."""
    shown = "; ".join(f.detail for f in findings[:3])
    more = f"; and {len(findings) - 3} more" if len(findings) > 3 else ""
    return f"{model} version {version}: the data are broken: {shown}{more}"
