"""Cursors (the positions of readers) and the ledger (the fate of the rows that replicas
answered)."""

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from driftloop_contracts.errors import Conflict
from driftloop_store.database import Database, Record
from driftloop_store.tables import cursors, ledger

_LEDGER_KEY = ["replica", "model", "version"]
_COUNTS = ("served", "acked", "spooled", "dropped")


class LeaseLost(Conflict):
    """Another process has taken over. What this one was about to write is not written."""


@dataclass(frozen=True, slots=True)
class Fence:
    """lease: the name of the cursor that says who may write."""

    lease: str
    holder: str


class Readers(Database):
    def cursor(self, name: str) -> Record | None:
        """Return a reader's position, e.g. the monitor's last judged window and its test's
        state."""
        with self._read() as c:
            return c.execute(sa.select(cursors.c.body).where(cursors.c.name == name)).scalar()

    def put_cursor(self, name: str, body: Record, changed: str | None = None) -> None:
        """changed: the model whose pages show it, "" for those of all; None: no page does."""
        self._upsert(cursors, {"name": name}, {"body": body}, changed)

    def put_fenced_cursor(
        self, name: str, body: Record, fence: Fence, changed: str | None = None
    ) -> None:
        """As `put_cursor`. Raises LeaseLost if the lease is another's or nobody's."""
        lease = sa.select(cursors.c.body).where(cursors.c.name == fence.lease).with_for_update()
        insert = self._insert_into(cursors).values(name=name, body=body)
        with self._begin() as c:
            held = c.execute(lease).scalar()
            if held is None or held["holder"] != fence.holder:
                raise LeaseLost("another process has taken over this model")
            c.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"body": body}))
            if changed is not None:
                self._count_change(c, changed)

    def drop_cursor(self, name: str, changed: str | None = None) -> None:
        with self._begin() as c:
            c.execute(sa.delete(cursors).where(cursors.c.name == name))
            if changed is not None:
                self._count_change(c, changed)

    def put_ledger(
        self,
        replica: str,
        model: str,
        version: int,
        *,
        served: int,
        acked: int,
        spooled: int,
        dropped: dict[str, int],
    ) -> None:
        """Write absolute row counts since the replica started: served = acked + spooled +
        dropped."""
        entry = {"served": served, "acked": acked, "spooled": spooled, "dropped": dropped}
        self.put_ledgers(replica, {(model, version): entry})

    def put_ledgers(self, replica: str, entries: Mapping[tuple[str, int], Record]) -> None:
        """Write the row counts of several (model, version) at once; see `put_ledger`."""
        rows = [
            {"replica": replica, "model": model, "version": version, **entry}
            for (model, version), entry in entries.items()
        ]
        insert = self._insert_into(ledger)
        counts = {name: insert.excluded[name] for name in _COUNTS}
        upsert = insert.on_conflict_do_update(index_elements=_LEDGER_KEY, set_=counts)
        with self._begin() as c:
            c.execute(upsert, rows)

    def ledger(self, model: str | None = None) -> list[Record]:
        query = sa.select(ledger)
        if model is not None:
            query = query.where(ledger.c.model == model)
        with self._read() as c:
            return [dict(row._mapping) for row in c.execute(query)]
