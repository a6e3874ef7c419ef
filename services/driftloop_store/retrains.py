"""Retrains, one active for each model: a unique index sees to it."""

from collections.abc import Callable

import sqlalchemy as sa

from driftloop_contracts.retrain import ACTIVE, Retrain
from driftloop_store.database import Database, as_record, columns_of
from driftloop_store.tables import retrains as table


class Retrains(Database):
    def request_retrain(self, wanted: Retrain) -> Retrain:
        """Ask for a retrain. The same id again returns the same record; another id, while a retrain
        of the model is active, returns that one."""
        active = (table.c.model == wanted.model, table.c.state.in_(ACTIVE))
        while True:
            self._insert(table, columns_of(wanted.to_dict()))
            found = self._find(table, table.c.id == wanted.id) or self._find(table, *active)
            if found is not None:  # else the one in the way ended meanwhile
                return Retrain.from_dict(found)

    def retrains(self, model: str | None = None, limit: int = 100) -> list[Retrain]:
        """Newest first."""
        return [Retrain.from_dict(record) for record in self._newest(table, model, limit)]

    def retrain(self, retrain_id: str) -> Retrain:
        return Retrain.from_dict(self._get(table, retrain_id))

    def active_retrains(self) -> list[Retrain]:
        """Requested or running ones, oldest first: after a crash, `running` ones are to resume."""
        query = sa.select(table).where(table.c.state.in_(ACTIVE)).order_by(table.c.at)
        with self._begin() as c:
            return [Retrain.from_dict(as_record(row)) for row in c.execute(query)]

    def change_retrain(self, retrain_id: str, change: Callable[[Retrain], Retrain]) -> Retrain:
        """Write what `change` makes of a retrain, on top of the revision that it was given. It is
        called again if another writer was faster; what it raises changes nothing."""
        record = self._change(
            table, retrain_id, lambda record: change(Retrain.from_dict(record)).to_dict()
        )
        return Retrain.from_dict(record)
