"""Incidents with their history, and the outbox: what is to be sent about them.

An incident and the notices of its change are written in one transaction; so are a delivery and the
notices that it takes on. Whatever is killed when, a committed change is sent. ADR 37.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from driftloop_contracts.incident import (
    Delivery,
    DeliveryState,
    Incident,
    IncidentChange,
    IncidentState,
    Notice,
    NoticeKind,
)
from driftloop_store.database import Database, Record, loop_event, parts
from driftloop_store.tables import deliveries, incident_events, outbox
from driftloop_store.tables import incidents as table

_COLUMNS = ("id", "model", "at", "cause", "subject", "urgency", "state", "updated_at", "revision")


class Incidents(Database):
    def incident(self, incident_id: str) -> Incident:
        """Raises NotFound."""
        return Incident.from_dict(self._get(table, incident_id))

    def incidents(self, model: str | None = None, limit: int = 100) -> list[Incident]:
        """Of every state, newest first. model: "" for those of the whole stack."""
        return [Incident.from_dict(record) for record in self._newest(table, model, limit)]

    def unresolved_incidents(self) -> list[Incident]:
        """All of them, oldest first."""
        active = table.c.state != IncidentState.RESOLVED
        query = sa.select(table).where(active).order_by(table.c.at, table.c.id)
        with self._read() as c:
            return [_incident(row) for row in c.execute(query)]

    def incidents_by_id(self, ids: Collection[str]) -> dict[str, Incident]:
        """Those that there are."""
        found = {}
        with self._read() as c:
            for part in parts(list(ids)):
                for row in c.execute(sa.select(table).where(table.c.id.in_(part))):
                    found[row.id] = _incident(row)
        return found

    def incident_events(self, incident_id: str) -> list[Record]:
        """Its history, oldest first: at, event, actor, reason."""
        events = incident_events
        query = sa.select(events).where(events.c.incident_id == incident_id)
        with self._read() as c:
            rows = c.execute(query.order_by(events.c.number))
            return [{"at": row.at, **row.body} for row in rows]

    def write_incidents(self, changes: Iterable[IncidentChange]) -> list[Incident]:
        """Write what nobody else changed meanwhile, with its history and notices, in one
        transaction; the rest is left out. Returns what was written, as it is now."""
        written, told = [], []
        with self._begin() as c:
            for change in changes:
                if (incident := self._write(c, change)) is not None:
                    written.append(incident)
                    told += [_told(incident, change)] if change.event else []
            self._announce(c, told)
        return written

    def change_incident(
        self, incident_id: str, change: Callable[[Incident], IncidentChange]
    ) -> Incident:
        """Write what `change` makes of an incident. It is called again if another writer was
        faster; what it raises changes nothing. Raises NotFound."""
        while True:
            for written in self.write_incidents([change(self.incident(incident_id))]):
                return written

    def waiting_notices(self, route: str | None = None) -> list[Notice]:
        """Those that no delivery has taken on, oldest first."""
        query = sa.select(outbox).where(outbox.c.delivery_id.is_(None))
        if route is not None:
            query = query.where(outbox.c.route == route)
        with self._read() as c:
            return [_notice(row) for row in c.execute(query.order_by(outbox.c.at, outbox.c.id))]

    def notices_of(self, incident_id: str) -> list[Record]:
        """The notices of an incident, oldest first: the notice's fields, and `delivery`, the state
        of the delivery that took it on, or None if it waits."""
        query = (
            sa.select(outbox, deliveries.c.state.label("delivery"))
            .outerjoin(deliveries, deliveries.c.id == outbox.c.delivery_id)
            .where(outbox.c.incident_id == incident_id)
            .order_by(outbox.c.at, outbox.c.id)
        )
        with self._read() as c:
            return [dict(row._mapping) for row in c.execute(query)]

    def add_delivery(self, delivery: Delivery, notices: Sequence[Notice]) -> bool:
        """The message that takes on these notices, in one transaction. False, and nothing changed,
        if another writer took one of them on."""
        ids = [notice.id for notice in notices]
        with self._begin() as c:
            taken = sum(self._take(c, delivery.id, part) for part in parts(ids))
            if taken != len(ids):
                c.rollback()
                return False
            c.execute(deliveries.insert().values(_delivery_columns(delivery)))
            return True

    def drop_notices(self, notices: Sequence[Notice]) -> None:
        """Of a route that the settings do not name any more, or that are out of date."""
        with self._begin() as c:
            for part in parts([notice.id for notice in notices]):
                c.execute(sa.delete(outbox).where(outbox.c.id.in_(part)))

    def pending_deliveries(self) -> list[Delivery]:
        """Oldest first."""
        query = sa.select(deliveries).where(deliveries.c.state == DeliveryState.PENDING)
        with self._read() as c:
            rows = c.execute(query.order_by(deliveries.c.at, deliveries.c.id))
            return [_delivery(row) for row in rows]

    def deliveries(self, route: str | None = None, limit: int = 100) -> list[Delivery]:
        """Newest first."""
        query = sa.select(deliveries)
        if route is not None:
            query = query.where(deliveries.c.route == route)
        with self._read() as c:
            order = deliveries.c.at.desc(), deliveries.c.id.desc()
            return [_delivery(row) for row in c.execute(query.order_by(*order).limit(limit))]

    def last_deliveries(self) -> dict[str, datetime]:
        """When each route's newest delivery was decided."""
        query = sa.select(deliveries.c.route, sa.func.max(deliveries.c.at))
        with self._read() as c:
            rows = c.execute(query.group_by(deliveries.c.route)).all()
        return {route: datetime.fromisoformat(at) for route, at in rows}

    def save_delivery(self, delivery: Delivery) -> None:
        """What became of an attempt."""
        values = _delivery_columns(delivery)
        with self._begin() as c:
            c.execute(deliveries.update().where(deliveries.c.id == delivery.id).values(values))

    def forget_deliveries(self, before: datetime) -> None:
        """Delete those that ended and are older, with their notices."""
        old = sa.and_(
            deliveries.c.at < before.isoformat(), deliveries.c.state != DeliveryState.PENDING
        )
        ids = sa.select(deliveries.c.id).where(old)
        with self._begin() as c:
            c.execute(sa.delete(outbox).where(outbox.c.delivery_id.in_(ids)))
            c.execute(sa.delete(deliveries).where(old))

    def _write(self, c: sa.Connection, change: IncidentChange) -> Incident | None:
        before = change.incident.revision
        values = {**_incident_columns(change.incident), "revision": before + 1}
        statement: Any
        if before == 0:
            statement = self._insert_into(table).values(values).on_conflict_do_nothing()
        else:
            where = (table.c.id == change.incident.id, table.c.revision == before)
            statement = table.update().where(*where).values(values)
        row = c.execute(statement.returning(table)).first()
        if row is None:
            return None
        written = _incident(row)
        self._count_change(c, written.model)
        if change.event:
            at = written.updated_at.isoformat()
            body = {"event": change.event, "actor": change.actor, "reason": change.reason}
            of_incident = {"incident_id": written.id, "at": at, "body": body}
            c.execute(incident_events.insert().values(of_incident))
        if change.notices:
            c.execute(outbox.insert(), [_notice_columns(notice) for notice in change.notices])
        return written

    def _take(self, c: sa.Connection, delivery_id: str, ids: Sequence[str]) -> int:
        free = (outbox.c.id.in_(ids), outbox.c.delivery_id.is_(None))
        return c.execute(outbox.update().where(*free).values(delivery_id=delivery_id)).rowcount


def _told(incident: Incident, change: IncidentChange) -> Record:
    names = ("state", "cause", "subject", "urgency", "happened", "next")
    record = incident.to_dict()
    said = {"event": change.event, "actor": change.actor, "reason": change.reason}
    body = {**said, **{name: record[name] for name in names}}
    return loop_event("incident", incident.model, incident.id, body, incident.updated_at)


def _incident_columns(incident: Incident) -> Record:
    value = incident.to_dict()
    del value["message"]
    columns = {name: value.pop(name) for name in _COLUMNS}
    return {**columns, "body": value}


def _incident(row: sa.Row[Any]) -> Incident:
    return Incident.from_dict({**row.body, **row._mapping})


def _notice_columns(notice: Notice) -> Record:
    return {
        "id": notice.id,
        "route": notice.route,
        "incident_id": notice.incident,
        "kind": notice.kind,
        "at": notice.at.isoformat(),
    }


def _notice(row: sa.Row[Any]) -> Notice:
    return Notice(
        id=row.id,
        route=row.route,
        incident=row.incident_id,
        kind=NoticeKind(row.kind),
        at=datetime.fromisoformat(row.at),
    )


def _delivery_columns(delivery: Delivery) -> Record:
    value = delivery.to_dict()
    columns = {name: value.pop(name) for name in ("id", "route", "at", "state")}
    return {**columns, "body": value}


def _delivery(row: sa.Row[Any]) -> Delivery:
    return Delivery.from_dict({**row.body, **row._mapping})
