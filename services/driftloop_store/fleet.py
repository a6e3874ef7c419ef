"""Records as pages show them: the newest of every model at once, and those of a time range."""

from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from driftloop_contracts.alert import Alert, AlertState
from driftloop_store import tables as t
from driftloop_store.database import Record, as_record
from driftloop_store.readers import Readers

Kind = Literal["windows", "findings", "decisions", "alerts", "retrains", "rollouts"]
_MONITOR = "monitor/"


class Fleet(Readers):
    def newest_of_each(self, kind: Kind) -> dict[str, Record]:
        """The newest record of each deployed model that has one."""
        table, models = t.metadata.tables[kind], t.deployments
        of_model = table.alias()
        newest = (
            sa.select(of_model.c.id)
            .where(of_model.c.model == models.c.model)
            .order_by(of_model.c.at.desc(), of_model.c.id.desc())
            .limit(1)
            .correlate(models)
            .scalar_subquery()
        )
        with self._read() as c:
            rows = c.execute(sa.select(table).select_from(models).join(table, table.c.id == newest))
            return {row.model: as_record(row) for row in rows}

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
            return [as_record(row) for row in c.execute(query)]

    def record(self, kind: Kind, id_: str) -> Record:
        """Raises NotFound."""
        return self._get(t.metadata.tables[kind], id_)

    def open_alerts(self) -> list[Alert]:
        """Those that are not closed, newest first."""
        query = sa.select(t.alerts).where(t.alerts.c.state != AlertState.CLOSED)
        with self._read() as c:
            rows = c.execute(query.order_by(t.alerts.c.at.desc()))
            return [Alert.from_dict(as_record(row)) for row in rows]

    def monitor_states(self, model: str | None = None) -> dict[str, Record]:
        """What the monitor keeps of each model between its steps, or of one."""
        name = t.cursors.c.name
        where = name.startswith(_MONITOR) if model is None else name == _MONITOR + model
        with self._read() as c:
            rows = c.execute(sa.select(name, t.cursors.c.body).where(where))
            return {row.name.removeprefix(_MONITOR): row.body for row in rows}
