"""What happened to incidents, retrains and rollouts, in one order: for those who watch.

Numbers grow in the order of commits, so a reader that remembers the last one misses nothing.
"""

import sqlalchemy as sa

from driftloop_store.database import Database, Record
from driftloop_store.tables import loop_events as table

MOST = 500


class LoopEvents(Database):
    def newest_loop_event(self) -> int:
        """The number of the newest; 0 if there is none."""
        with self._read() as c:
            return int(c.execute(sa.select(sa.func.max(table.c.number))).scalar() or 0)

    def loop_events_after(
        self, number: int, model: str | None = None, limit: int = MOST
    ) -> list[Record]:
        """Oldest first: number, at, kind (incident, retrain, rollout), model, record_id, event,
        state and more by kind."""
        query = sa.select(table).where(table.c.number > number).order_by(table.c.number)
        if model is not None:
            query = query.where(table.c.model == model)
        with self._read() as c:
            rows = c.execute(query.limit(limit)).mappings()
            return [{**{k: v for k, v in r.items() if k != "body"}, **r["body"]} for r in rows]
