"""When a route's notices become one message, and what it then says of each incident. Pure.

A route has at most one message under way, and at most one in `group` seconds: what comes meanwhile
waits, and is sent together. What is not urgent waits for the digest of the day.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from driftloop_alerts.routing import Route
from driftloop_contracts.incident import (
    Cause,
    Incident,
    IncidentState,
    Notice,
    NoticeKind,
    Urgency,
)


@dataclass(frozen=True, slots=True)
class Item:
    """What a message says of one incident. unheard: it is over, and this is the first that the
    route hears of it."""

    kind: NoticeKind
    incident: Incident
    unheard: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """notices: all that the message takes on; items: what is left to say, the worst first. Without
    items nothing is sent, and the notices are dropped."""

    notices: tuple[Notice, ...]
    items: tuple[Item, ...]


def due(
    route: Route,
    waiting: Sequence[Notice],
    incidents: Mapping[str, Incident],
    last: datetime | None,
    now: datetime,
) -> Batch | None:
    """What is sent on the route now, if anything. waiting: its notices, oldest first; last: when
    its last message was decided."""
    tests = [n for n in waiting if n.incident in incidents and _is_test(incidents[n.incident])]
    if tests:  # somebody waits for it
        return _batch(tests, incidents)
    ready = [n for n in waiting if _ready_at(n, incidents.get(n.incident), route) <= now]
    if not ready or route.opens_at(now) > now:
        return None
    if now - min(_ready_at(n, incidents.get(n.incident), route) for n in ready) < route.collect:
        return None
    if last is not None and now - last < route.group:
        return None
    return _batch(ready, incidents)


def _is_test(incident: Incident) -> bool:
    return incident.cause is Cause.TEST


def _ready_at(notice: Notice, incident: Incident | None, route: Route) -> datetime:
    if incident is not None and incident.urgency is Urgency.DIGEST:
        return route.digest_after(notice.at)
    return notice.at


def _batch(notices: Sequence[Notice], incidents: Mapping[str, Incident]) -> Batch:
    kinds: dict[str, list[NoticeKind]] = {}
    for notice in notices:
        kinds.setdefault(notice.incident, []).append(notice.kind)
    items = [
        item
        for incident_id, told in kinds.items()
        if incident_id in incidents and (item := _item(told, incidents[incident_id]))
    ]
    return Batch(tuple(notices), tuple(sorted(items, key=_order)))


def _item(kinds: Iterable[NoticeKind], incident: Incident) -> Item | None:
    """What is left to say after all that happened meanwhile. An incident that is over is sent once
    if nobody knows of it; a repetition is left out after somebody acknowledged the incident."""
    known = list(kinds)
    unheard = NoticeKind.OPENED in known
    if incident.state is IncidentState.RESOLVED:
        told_or_due = unheard or NoticeKind.RESOLVED in known
        return Item(NoticeKind.RESOLVED, incident, unheard) if told_or_due else None
    if unheard:
        return Item(NoticeKind.OPENED, incident)
    quiet = incident.hidden_by is not None or incident.state is not IncidentState.OPEN
    return None if quiet else Item(known[-1], incident)


def _order(item: Item) -> tuple[bool, int, datetime, str]:
    over = item.kind is NoticeKind.RESOLVED
    urgency = list(Urgency).index(item.incident.urgency)
    return over, urgency, item.incident.at, item.incident.id
