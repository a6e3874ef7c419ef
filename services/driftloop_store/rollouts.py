"""Rollouts with their events; a unique index allows one active rollout per model."""

from datetime import UTC, datetime

import sqlalchemy as sa

from driftloop_contracts.errors import Conflict
from driftloop_contracts.model import ServedVersion
from driftloop_store.database import Database, Record, as_record, loop_event
from driftloop_store.tables import FINISHED_ROLLOUTS, rollout_events
from driftloop_store.tables import rollouts as table


class Rollouts(Database):
    def request_rollout(
        self, id_: str, candidate: ServedVersion, model: str, at: datetime, reason: str
    ) -> Record:
        """Request a canary of a registered version, in state `pending`. Repeating the same id
        returns the same record. Raises Conflict while another rollout of the model is active."""
        body = {"candidate": candidate.to_dict(), "reason": reason}
        of = {"reason": reason, "version": candidate.version, "former": None}
        values = {"id": id_, "model": model, "at": at.isoformat(), "state": "pending"}
        active = (table.c.model == model, table.c.state.not_in(FINISHED_ROLLOUTS))
        while True:
            told = {"event": "request", "state": "pending", "weight": 0.0, "actor": "", **of}
            self._insert(
                table,
                {**values, "revision": 1, "body": body},
                loop_event("rollout", model, id_, told, at),
            )
            if (found := self._find(table, table.c.id == id_)) is not None:
                return found
            if (other := self._find(table, *active)) is not None:
                raise Conflict(f"model {model!r} already has an active rollout: {other['id']}")
            # The active one has just ended.

    def rollouts(self, model: str | None = None, limit: int | None = 100) -> list[Record]:
        return self._newest(table, model, limit)

    def rollout(self, rollout_id: str) -> Record:
        return self._get(table, rollout_id)

    def active_rollouts(self) -> list[Record]:
        query = sa.select(table).where(table.c.state.not_in(FINISHED_ROLLOUTS))
        with self._read() as c:
            return [as_record(row) for row in c.execute(query.order_by(table.c.at))]

    def save_rollout(
        self, rollout_id: str, revision: int, state: str, body: Record, event: Record | None = None
    ) -> Record:
        """Write a rollout if `revision` is still current, with the event that led there, in one
        transaction. Raises Conflict."""
        now = datetime.now(UTC).isoformat()
        with self._begin() as c:
            row = c.execute(
                table.update()
                .where(table.c.id == rollout_id, table.c.revision == revision)
                .values(state=state, revision=revision + 1, body=body)
                .returning(table)
            ).first()
            if row is None:
                raise Conflict(f"rollout {rollout_id} was changed by someone else; read it again")
            self._count_change(c, row.model)
            if event is not None:
                values = {"rollout_id": rollout_id, "at": now, "body": event}
                c.execute(rollout_events.insert().values(values))
                self._announce(c, [_told(as_record(row), event)])
        return as_record(row)

    def rollout_events(self, rollout_id: str) -> list[Record]:
        """Return the events, oldest first."""
        query = sa.select(rollout_events).where(rollout_events.c.rollout_id == rollout_id)
        with self._read() as c:
            rows = c.execute(query.order_by(rollout_events.c.number))
            return [{"at": row.at, **row.body} for row in rows]


def _told(rollout: Record, event: Record) -> Record:
    champion = rollout.get("champion")
    body = {
        **{name: event.get(name) for name in ("event", "weight", "actor", "reason")},
        "state": rollout["state"],
        "version": rollout["candidate"]["version"],
        "former": champion["version"] if champion else None,
    }
    return loop_event("rollout", rollout["model"], rollout["id"], body)
