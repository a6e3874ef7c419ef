"""What changed, cheap to ask again and again: for those who show records while they change."""

import sqlalchemy as sa

from driftloop_store.database import Database
from driftloop_store.tables import changes, ledger

_COUNTS = (ledger.c.served, ledger.c.acked, ledger.c.spooled)


class Changes(Database):
    def stamp(self) -> tuple[int, ...]:
        """Differs from an earlier one if `revisions` or `traffic` do."""
        sums = [sa.select(sa.func.sum(column)) for column in (changes.c.revision, *_COUNTS)]
        with self._read() as c:
            row = c.execute(sa.select(*(each.scalar_subquery() for each in sums))).one()
            return tuple(int(value or 0) for value in row)

    def revisions(self) -> dict[str, int]:
        """Of each model, how many changes of its records there were: deployment, what replicas
        hold, windows, findings, alerts, incidents, decisions, retrains, rollouts, failing cycles.
        "" counts those of no model."""
        with self._read() as c:
            return {row.model: row.revision for row in c.execute(sa.select(changes))}

    def traffic(self) -> dict[str, tuple[int, ...]]:
        """Of each model, the rows that replicas served, and those of them acked and spooled."""
        query = sa.select(ledger.c.model, *map(sa.func.sum, _COUNTS)).group_by(ledger.c.model)
        with self._read() as c:
            return {model: tuple(map(int, counts)) for model, *counts in c.execute(query)}
