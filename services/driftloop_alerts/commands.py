"""What operators ask of incidents, written to the store."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from driftloop_alerts import operator_actions
from driftloop_contracts.alert import AlertEvent
from driftloop_contracts.errors import Conflict, NotFound
from driftloop_contracts.incident import Incident, IncidentChange
from driftloop_store import Store


def acknowledge(
    store: Store,
    incident_id: str,
    by: str,
    reason: str,
    now: datetime,
    check: Callable[[Incident], None] = lambda _: None,
) -> Incident:
    """Acknowledge an incident and the alert behind it; returns the incident. `check` may raise
    before anything is changed. Raises Conflict if somebody was faster, and NotFound."""

    def change(found: Incident) -> IncidentChange:
        check(found)
        return operator_actions.acknowledge(found, by, reason, now)

    changed = store.change_incident(incident_id, change)
    if alert_id := changed.evidence.get("alert"):
        with suppress(Conflict, NotFound):  # it was closed meanwhile
            store.change_alert(alert_id, lambda alert: alert.after(AlertEvent.ACKNOWLEDGE))
    store.audit(by, "acknowledge", {"incident": incident_id, "reason": reason})
    return changed
