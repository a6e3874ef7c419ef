"""What changed, cheap to ask again and again: for those who show records while they change."""

import sqlalchemy as sa

from driftloop_store.database import Database
from driftloop_store.health import PREFIX
from driftloop_store.replicas import STATUSES
from driftloop_store.tables import changes, cursors, ledger


class Changes(Database):
    def revisions(self) -> dict[str, int]:
        """Of each model, how many changes of its records there were: deployment, windows, findings,
        alerts, decisions, retrains, rollouts. "" counts records of no model."""
        with self._read() as c:
            return {row.model: row.revision for row in c.execute(sa.select(changes))}

    def traffic(self) -> dict[str, tuple[int, int, int]]:
        """Of each model, the rows that replicas served, and those of them acked and spooled."""
        sums = (
            sa.func.sum(column) for column in (ledger.c.served, ledger.c.acked, ledger.c.spooled)
        )
        query = sa.select(ledger.c.model, *sums).group_by(ledger.c.model)
        with self._read() as c:
            return {model: (*map(int, counts),) for model, *counts in c.execute(query)}  # type: ignore[misc]

    def role_notes(self) -> str:
        """What the store says of roles and replicas, to be compared with what it said before."""
        noted = sa.or_(cursors.c.name == STATUSES, cursors.c.name.startswith(PREFIX))
        query = sa.select(cursors.c.name, cursors.c.body).where(noted).order_by(cursors.c.name)
        with self._read() as c:
            return repr([tuple(row) for row in c.execute(query)])
