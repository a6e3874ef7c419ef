"""What people do about incidents, and what they ask: which routes would take this? Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from driftloop_alerts.conditions import URGENCY, clock_time
from driftloop_alerts.reconciliation import opened, stable_id
from driftloop_alerts.routing import Route
from driftloop_contracts.errors import Conflict, NotFound
from driftloop_contracts.incident import (
    Cause,
    Incident,
    IncidentChange,
    IncidentEvent,
    IncidentState,
    Urgency,
)


def acknowledge(incident: Incident, by: str, reason: str, now: datetime) -> IncidentChange:
    """It is not repeated any more. Raises Conflict if somebody was faster, and says who."""
    if incident.state is IncidentState.ACKNOWLEDGED:
        raise Conflict(
            f"incident {incident.id} was acknowledged by {incident.by or 'somebody'} at "
            f"{clock_time(incident.updated_at)}"
        )
    after = incident.after(IncidentEvent.ACKNOWLEDGE, now, by=by, silenced_until=None)
    return IncidentChange(after, IncidentEvent.ACKNOWLEDGE, by, reason)


def silence(
    incident: Incident, for_s: float, by: str, reason: str, now: datetime
) -> IncidentChange:
    """Nothing is sent until the time is over; then it is said if it is still open."""
    until = now + timedelta(seconds=for_s)
    after = incident.after(IncidentEvent.SILENCE, now, by=by, silenced_until=until)
    return IncidentChange(after, IncidentEvent.SILENCE, by, reason or f"until {clock_time(until)}")


def trial(route: str, routes: Sequence[Route], by: str, now: datetime) -> IncidentChange:
    """An incident that is sent on one route, at once and whatever its hours. Raises NotFound."""
    chosen = [known for known in routes if known.name == route]
    if not chosen:
        names = ", ".join(known.name for known in routes) or "none; `[[alerts.routes]]` adds one"
        raise NotFound(f"there is no route {route!r}; there are: {names}")
    incident = hypothetical("", Cause.TEST, now, subject=route, by=by)
    return opened(incident, chosen)


def hypothetical(
    model: str, cause: Cause, now: datetime, subject: str = "", by: str = ""
) -> Incident:
    """As it would be opened now."""
    return Incident(
        id=stable_id(model, cause, subject, now.isoformat()),
        model=model,
        cause=cause,
        subject=subject,
        urgency=URGENCY[cause],
        happened=f"{by or 'Somebody'} tests the route {subject}.",
        next="Nothing follows from it.",
        at=now,
        updated_at=now,
    )


@dataclass(frozen=True, slots=True)
class Explanation:
    """Whether a route would take an incident, and why not; when: what it would wait for."""

    route: str
    takes: bool
    why: str


def explain(routes: Sequence[Route], incident: Incident, now: datetime) -> list[Explanation]:
    """For each route, in the order of the settings."""
    return [_explanation(route, incident, now) for route in routes]


def _explanation(route: Route, incident: Incident, now: datetime) -> Explanation:
    refusal = route.refusal(incident)
    if refusal:
        return Explanation(route.name, False, refusal)
    ready = route.digest_after(now) if incident.urgency is Urgency.DIGEST else now
    at = route.opens_at(ready)
    when = "at once" if at == now else f"at {clock_time(at.astimezone(route.zone))}"
    repeat = f", again every {route.repeat.total_seconds():g} s" if route.repeat else ""
    return Explanation(route.name, True, f"sent {when}{repeat} while it is open")
