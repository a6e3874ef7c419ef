"""The newest records of every deployed model at once."""

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa

from driftloop_store import tables as t
from driftloop_store.database import Database, Record, as_record, parts


class NewestRecords(Database):
    def newest_windows(
        self, each: int, models: Collection[str] | None = None
    ) -> dict[str, list[Record]]:
        """By model, newest first. models: None: all."""
        return self._newest_of_each(t.windows, each, models)

    def newest_retrains(
        self, each: int, models: Collection[str] | None = None
    ) -> dict[str, list[Record]]:
        return self._newest_of_each(t.retrains, each, models)

    def newest_rollouts(self, models: Collection[str] | None = None) -> dict[str, list[Record]]:
        return self._newest_of_each(t.rollouts, 1, models)

    def newest_decisions(self, models: Collection[str]) -> dict[str, list[Record]]:
        """Of these models."""
        return self._newest_of_each(t.decisions, 1, models) if models else {}

    def findings_at(self, model: str, at: datetime) -> list[Record]:
        """Of the windows of a model that ended then."""
        table = t.findings
        query = sa.select(table).where(table.c.model == model, table.c.at == at.isoformat())
        with self._read() as c:
            return [as_record(row) for row in c.execute(query)]

    def first_window_after(self, model: str, at: datetime) -> datetime | None:
        """When the first window that ended later than `at` ended."""
        ended = t.windows.c.at
        query = sa.select(sa.func.min(ended)).where(
            t.windows.c.model == model, ended > at.isoformat()
        )
        with self._read() as c:
            found = c.execute(query).scalar()
        return datetime.fromisoformat(found) if found else None

    def _newest_of_each(
        self, table: sa.Table, each: int, models: Collection[str] | None = None
    ) -> dict[str, list[Record]]:
        """One index look-up for each model and record: never a scan of the table. models: None:
        all."""
        of_model = (
            sa.select(table.c.id)
            .where(table.c.model == t.deployments.c.model)
            .order_by(table.c.at.desc(), table.c.id.desc())
            .limit(1)
            .correlate(t.deployments)
        )
        ids = sa.select(*(of_model.offset(n).scalar_subquery() for n in range(each)))
        ids = ids.select_from(t.deployments)
        if models is not None:
            ids = ids.where(t.deployments.c.model.in_(models))
        found: dict[str, list[Record]] = {}
        with self._read() as c:
            wanted = [id_ for row in c.execute(ids) for id_ in row if id_ is not None]
            for part in parts(wanted):
                for row in c.execute(sa.select(table).where(table.c.id.in_(part))):
                    found.setdefault(row.model, []).append(as_record(row))
        for records in found.values():
            records.sort(key=lambda record: (record["at"], record["id"]), reverse=True)
        return found
