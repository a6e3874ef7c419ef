"""Records as pages show them: those of a time range, and what is kept of every model at once."""

from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from driftloop_store import tables as t
from driftloop_store.database import Record, as_records
from driftloop_store.readers import Readers

Kind = Literal[
    "windows", "sketches", "findings", "decisions", "alerts", "retrains", "rollouts", "incidents"
]
_MONITOR = "monitor/"


class Fleet(Readers):
    def between(
        self,
        kind: Kind,
        model: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 1_000,
    ) -> list[Record]:
        """Newest first. since: included; until: not."""
        table = t.metadata.tables[kind]
        query = sa.select(table).order_by(table.c.at.desc(), table.c.id.desc()).limit(limit)
        if model is not None:
            query = query.where(table.c.model == model)
        if since is not None:
            query = query.where(table.c.at >= since.isoformat())
        if until is not None:
            query = query.where(table.c.at < until.isoformat())
        with self._read() as c:
            return as_records(c.execute(query))

    def record(self, kind: Kind, id_: str) -> Record:
        """Raises NotFound."""
        return self._get(t.metadata.tables[kind], id_)

    def monitor_states(self, *models: str) -> dict[str, Record]:
        """What the monitor keeps of these models between its steps; without names, of all."""
        name = t.cursors.c.name
        names = [_MONITOR + model for model in models]
        where = name.in_(names) if models else name.startswith(_MONITOR)
        with self._read() as c:
            rows = c.execute(sa.select(name, t.cursors.c.body).where(where))
            return {row.name.removeprefix(_MONITOR): row.body for row in rows}
