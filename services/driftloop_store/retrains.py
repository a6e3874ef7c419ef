"""Retrains, one active for each model: a unique index sees to it."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from driftloop_store.database import Database, Record, as_record
from driftloop_store.tables import ACTIVE_RETRAINS
from driftloop_store.tables import retrains as table


class Retrains(Database):
    def request_retrain(self, id_: str, model: str, at: datetime, body: Record) -> Record:
        """Ask for a retrain. The same id again returns the same record; another id, while a retrain
        of the model is active, returns that one."""
        values = {"id": id_, "model": model, "at": at.isoformat(), "state": "requested"}
        active = (table.c.model == model, table.c.state.in_(ACTIVE_RETRAINS))
        while True:
            self._insert(table, {**values, "revision": 1, "body": body})
            found = self._find(table, table.c.id == id_) or self._find(table, *active)
            if found is not None:  # else the one in the way ended meanwhile
                return found

    def retrains(self, model: str | None = None, limit: int = 100) -> list[Record]:
        return self._newest(table, model, limit)

    def retrain(self, retrain_id: str) -> Record:
        return self._get(table, retrain_id)

    def active_retrains(self) -> list[Record]:
        """Requested or running ones, oldest first: after a crash, `running` ones are to resume."""
        query = sa.select(table).where(table.c.state.in_(ACTIVE_RETRAINS)).order_by(table.c.at)
        with self._begin() as c:
            return [as_record(row) for row in c.execute(query)]

    def update_retrain(self, retrain_id: str, *, state: str | None = None, **fields: Any) -> None:
        """Merge `fields` into the record's body. States: requested, running, succeeded, rejected
        (by the gate), failed, cancelled."""
        self._change(
            table,
            retrain_id,
            lambda row: {"body": {**row.body, **fields}, "state": state or row.state},
        )
