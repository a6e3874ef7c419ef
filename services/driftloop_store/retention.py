"""Forgets old windows, sketches, findings, decisions and loop events, in small transactions.

What led to an open alert, incident, retrain or rollout is kept, and so is the newest record of each
model. Alerts, incidents, retrains and rollouts themselves, their events and the audit log stay.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa

from driftloop_contracts.alert import AlertState
from driftloop_contracts.retrain import ACTIVE
from driftloop_store import tables as t
from driftloop_store.database import Database

BATCH = 1_000
LED_TO = timedelta(days=7)
"""How long before an open record began what led to it may lie: windows last hours, and a retrain
follows its decision within days."""


class Retention(Database):
    def forget(self, before: datetime, most: int = BATCH) -> int:
        """Delete at most `most` records of each kind that are older, and return how many there
        were: with 0, nothing is left to delete."""
        held = self._held(before)
        deleted = sum(
            self._forget_of_models(table, before, held, most)
            for table in (t.windows, t.sketches, t.findings, t.decisions)
        )
        return deleted + self._forget_events(before, most)

    def _held(self, before: datetime) -> dict[str, str]:
        """By model, the time from which on an open record of before needs the others."""
        change_at = t.alerts.c.body["change_at"].as_string()
        began = (
            (t.alerts, change_at, t.alerts.c.state != AlertState.CLOSED),
            (t.incidents, t.incidents.c.at, t.incidents.c.state != "resolved"),
            (t.retrains, t.retrains.c.at, t.retrains.c.state.in_(ACTIVE)),
            (t.rollouts, t.rollouts.c.at, t.rollouts.c.state.not_in(t.FINISHED_ROLLOUTS)),
        )
        found: dict[str, str] = {}
        with self._read() as c:
            for table, at, is_open in began:
                query = sa.select(table.c.model, sa.func.min(at)).where(is_open)
                for model, first in c.execute(query.group_by(table.c.model)):
                    since = (datetime.fromisoformat(first) - LED_TO).isoformat()
                    if since < before.isoformat():
                        found[model] = min(since, found.get(model, since))
        return found

    def _forget_of_models(
        self, table: sa.Table, before: datetime, held: dict[str, str], most: int
    ) -> int:
        newer = table.alias()
        has_newer = sa.exists().where(newer.c.model == table.c.model, newer.c.at > table.c.at)
        free = table.c.model.not_in(list(held))
        old = sa.or_(
            free, *(sa.and_(table.c.model == m, table.c.at < at) for m, at in held.items())
        )
        chosen = sa.select(table.c.id).where(table.c.at < before.isoformat(), old, has_newer)
        with self._begin() as c:
            return c.execute(table.delete().where(table.c.id.in_(chosen.limit(most)))).rowcount

    def _forget_events(self, before: datetime, most: int) -> int:
        """By their numbers, which grow with the time; the newest one stays, so that no number is
        given twice."""
        events, number = t.loop_events, t.loop_events.c.number
        first = sa.select(number, events.c.at).order_by(number).limit(most + 1)
        with self._begin() as c:
            rows = c.execute(first).all()
            old = [row.number for row in rows[:-1] if row.at < before.isoformat()]
            if old:
                c.execute(events.delete().where(number <= old[-1]))
            return len(old)
