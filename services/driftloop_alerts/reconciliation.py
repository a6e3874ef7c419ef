"""From what is wrong now to what happens to incidents, and which routes are notified. Pure.

Level-triggered: a condition without an incident opens one, an incident without its condition is
resolved. The incident keeps when each route was notified (`told`), so that a cycle that is
repeated after a crash writes nothing twice, and a new route in the settings gets what is open.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import blake2b

from driftloop_alerts.conditions import Condition
from driftloop_alerts.inhibition import Key, hidden
from driftloop_alerts.routing import Route, taken_by
from driftloop_contracts.incident import (
    Cause,
    Incident,
    IncidentChange,
    IncidentEvent,
    IncidentState,
    Notice,
    NoticeKind,
)

TEST_FOR = timedelta(minutes=1)
"""A test is over after that, without a message."""
OPENED = "opened"


def reconcile(
    unresolved: Iterable[Incident],
    found: Sequence[Condition],
    routes: Sequence[Route],
    now: datetime,
) -> list[IncidentChange]:
    """The changes that make the incidents those of the conditions; none where nothing changed."""
    known = {incident.key: incident for incident in unresolved}
    ids: dict[Key, str] = {key: incident.id for key, incident in known.items()}
    for condition in found:
        key = (condition.model, condition.cause, condition.subject)
        ids.setdefault(key, stable_id(*map(str, key), now.isoformat()))
    hiding = {effect: ids[cause] for effect, cause in hidden(found).items()}
    changes = []
    for condition in found:
        key = (condition.model, condition.cause, condition.subject)
        hidden_by = hiding.get(key)
        if key in known:
            changes += _updated(known.pop(key), condition, hidden_by, routes, now)
        else:
            changes.append(_opened(ids[key], condition, hidden_by, routes, now))
    for incident in known.values():
        changes += _without_condition(incident, routes, now)
    return changes


def opened(incident: Incident, routes: Sequence[Route]) -> IncidentChange:
    """A new incident with a notice for each route that takes it."""
    return _told(IncidentChange(incident, OPENED), routes, incident.at)


def stable_id(*parts: str) -> str:
    """32 hexadecimal digits."""
    return blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def _opened(
    id_: str, c: Condition, hidden_by: str | None, routes: Sequence[Route], now: datetime
) -> IncidentChange:
    incident = Incident(
        id=id_,
        model=c.model,
        cause=c.cause,
        subject=c.subject,
        urgency=c.urgency,
        happened=c.happened,
        next=c.next,
        at=now,
        updated_at=now,
        evidence={**c.evidence, "key": c.key},
        hidden_by=hidden_by,
    )
    if c.acknowledged:
        incident = incident.after(IncidentEvent.ACKNOWLEDGE, now, by="alert")
    return opened(incident, routes)


def _updated(
    before: Incident,
    c: Condition,
    hidden_by: str | None,
    routes: Sequence[Route],
    now: datetime,
) -> list[IncidentChange]:
    after, event, reason = before, "", ""
    if before.state is IncidentState.SILENCED and before.silenced_until is not None:
        if before.silenced_until <= now:
            after = before.after(IncidentEvent.END_SILENCE, now, silenced_until=None)
            event, reason = IncidentEvent.END_SILENCE, "the silence ended"
    elif c.acknowledged and before.state is IncidentState.OPEN:
        after = before.after(IncidentEvent.ACKNOWLEDGE, now, by="alert")
        event, reason = IncidentEvent.ACKNOWLEDGE, "its alert was acknowledged"
    if before.evidence.get("key") != c.key:
        after = after.after(
            IncidentEvent.UPDATE,
            now,
            count=after.count + 1,
            evidence={**c.evidence, "key": c.key},
        )
    said = (after.happened, after.next, after.hidden_by)
    if said != (c.happened, c.next, hidden_by):
        after = replace(
            after, happened=c.happened, next=c.next, hidden_by=hidden_by, updated_at=now
        )
    change = _told(IncidentChange(after, event, reason=reason), routes, now)
    return [change] if change.incident != before else []


def _without_condition(
    incident: Incident, routes: Sequence[Route], now: datetime
) -> list[IncidentChange]:
    """Its cause is gone, or it never had one: a test."""
    is_test = incident.cause is Cause.TEST
    if is_test and now - incident.at < TEST_FOR:
        return []
    resolved = incident.after(
        IncidentEvent.RESOLVE, now, resolved_at=now, silenced_until=None, hidden_by=None
    )
    is_over = is_test or incident.cause is Cause.NIGHT  # whose end is not news
    kinds = {} if is_over else dict.fromkeys(
        (r.name for r in routes if r.resolved and r.name in incident.told), NoticeKind.RESOLVED
    )  # fmt: skip
    change = IncidentChange(resolved, IncidentEvent.RESOLVE, reason="its cause is gone")
    return [_with_notices(change, kinds, now)]


def _told(change: IncidentChange, routes: Sequence[Route], now: datetime) -> IncidentChange:
    """With notices for the routes whose turn it is."""
    incident = change.incident
    if incident.hidden_by is not None or incident.state is not IncidentState.OPEN:
        return change
    kinds = {}
    for route in taken_by(routes, incident):
        last = incident.told.get(route.name)
        if last is None:
            kinds[route.name] = NoticeKind.OPENED
        elif change.event == IncidentEvent.END_SILENCE:
            kinds[route.name] = NoticeKind.SILENCE_ENDED
        elif route.repeat is not None and now - last >= route.repeat:
            kinds[route.name] = NoticeKind.REPEATED
    return _with_notices(change, kinds, now)


def _with_notices(
    change: IncidentChange, kinds: dict[str, NoticeKind], now: datetime
) -> IncidentChange:
    if not kinds:
        return change
    incident = change.incident
    notices = tuple(
        Notice(
            id=stable_id(incident.id, route, kind, now.isoformat()),
            route=route,
            incident=incident.id,
            kind=kind,
            at=now,
        )
        for route, kind in kinds.items()
    )
    told = {**incident.told, **dict.fromkeys(kinds, now)}
    return replace(change, incident=replace(incident, told=told), notices=notices)
