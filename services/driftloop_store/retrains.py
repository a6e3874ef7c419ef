"""Retrains; a unique index allows one active retrain per model."""

from collections.abc import Callable

import sqlalchemy as sa

from driftloop_contracts.retrain import ACTIVE, Retrain
from driftloop_store.database import Database, Record, as_record, columns_of, loop_event
from driftloop_store.tables import retrains as table


class Retrains(Database):
    def request_retrain(self, wanted: Retrain) -> Retrain:
        """Request a retrain. Repeating the same id returns the same record. With another id, if a
        retrain of the model is active, that one is returned."""
        active = (table.c.model == wanted.model, table.c.state.in_(ACTIVE))
        while True:
            columns = columns_of(wanted.to_dict())
            self._insert(table, columns, _told("", wanted.to_dict()))
            found = self._find(table, table.c.id == wanted.id) or self._find(table, *active)
            if found is not None:  # otherwise the active one has just ended
                return Retrain.from_dict(found)

    def retrains(self, model: str | None = None, limit: int | None = 100) -> list[Retrain]:
        """Return retrains, newest first; all if `limit` is None."""
        return [Retrain.from_dict(record) for record in self._newest(table, model, limit)]

    def retrain(self, retrain_id: str) -> Retrain:
        return Retrain.from_dict(self._get(table, retrain_id))

    def active_retrains(self) -> list[Retrain]:
        """Return requested and running retrains, oldest first. After a crash, those `running` must
        be resumed."""
        query = sa.select(table).where(table.c.state.in_(ACTIVE)).order_by(table.c.at)
        with self._read() as c:
            return [Retrain.from_dict(as_record(row)) for row in c.execute(query)]

    def change_retrain(self, retrain_id: str, change: Callable[[Retrain], Retrain]) -> Retrain:
        """Replace a retrain by the result of `change`, if its revision is unchanged; otherwise
        `change` is called again with the new state. An exception of `change` leaves the retrain
        unchanged."""
        record = self._change(
            table,
            retrain_id,
            lambda record: change(Retrain.from_dict(record)).to_dict(),
            lambda before, after: _told(before["state"], after),
        )
        return Retrain.from_dict(record)


def _told(before: str, after: Record) -> Record | None:
    """Progress is none."""
    state = str(after["state"])
    if state == before:
        return None
    names = ("trigger", "reason", "version")
    body = {"event": state, "state": state, **{name: after.get(name) for name in names}}
    body["reasons"] = list(after.get("reasons") or ())
    return loop_event("retrain", after["model"], after["id"], body)
