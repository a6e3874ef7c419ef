"""Append-only records: windows, findings, decisions and the audit log."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from driftloop_contracts.judgement import Decision, Finding, Window
from driftloop_store import tables as t
from driftloop_store.database import Database, Record, as_records

SKETCHES = 1_000


class Judgements(Database):
    def add_window(self, w: Window) -> None:
        self._append(t.windows, w.window_id, w.model, w.ended_at, w.to_dict())

    def add_sketch(
        self, w: Window, version: int, columns: Mapping[str, Any], keep: int = SKETCHES
    ) -> None:
        """Keep what charts show of a window's columns; of a model, only those of the newest `keep`
        windows."""
        body = {"version": version, "columns": dict(columns)}
        self._append(t.sketches, w.window_id, w.model, w.ended_at, body)
        of_model = t.sketches.c.model == w.model
        newest = sa.select(t.sketches.c.at).where(of_model).order_by(t.sketches.c.at.desc())
        oldest = newest.offset(keep - 1).limit(1).scalar_subquery()
        with self._begin() as c:
            c.execute(t.sketches.delete().where(of_model, t.sketches.c.at < oldest))

    def sketches(self, window_ids: Collection[str]) -> list[Record]:
        """Those that are kept of these windows, newest first."""
        query = sa.select(t.sketches).where(t.sketches.c.id.in_(window_ids))
        with self._read() as c:
            return as_records(c.execute(query.order_by(t.sketches.c.at.desc())))

    def put_reference_sketch(self, model: str, version: int, shown: Mapping[str, Any]) -> None:
        """Keep what charts show of a version's reference."""
        key = {"name": f"{_of_references(model)}{version}"}
        self._upsert(t.cursors, key, {"body": dict(shown)})

    def reference_sketches(self, model: str, versions: Collection[int]) -> dict[int, Record]:
        """Those that are kept of these versions."""
        name, prefix = t.cursors.c.name, _of_references(model)
        names = [f"{prefix}{version}" for version in versions]
        query = sa.select(name, t.cursors.c.body).where(name.in_(names))
        with self._read() as c:
            rows = c.execute(query)
            return {int(row.name.removeprefix(prefix)): row.body for row in rows}

    def erase_sketches(self, model: str) -> None:
        """They name frequent values of the model's rows."""
        of_references = t.cursors.c.name.startswith(_of_references(model), autoescape=True)
        with self._begin() as c:
            c.execute(t.sketches.delete().where(t.sketches.c.model == model))
            c.execute(t.cursors.delete().where(of_references))

    def add_finding(self, f: Finding) -> None:
        severity = f.severity.value
        self._append(t.findings, f.finding_id, f.model, f.at, f.to_dict(), severity=severity)

    def add_decision(self, d: Decision) -> None:
        self._append(t.decisions, d.decision_id, d.model, d.at, d.to_dict())

    def windows(self, model: str | None = None, limit: int = 100) -> list[Record]:
        return self._newest(t.windows, model, limit)

    def findings(self, model: str | None = None, limit: int = 100) -> list[Record]:
        return self._newest(t.findings, model, limit)

    def decisions(self, model: str | None = None, limit: int = 100) -> list[Record]:
        return self._newest(t.decisions, model, limit)

    def audit(self, actor: str, action: str, detail: Mapping[str, Any]) -> None:
        body = {"actor": actor, "action": action, **detail}
        with self._begin() as c:
            c.execute(t.audit.insert().values(at=datetime.now(UTC).isoformat(), body=body))

    def audits(
        self, limit: int = 100, since: datetime | None = None, until: datetime | None = None
    ) -> list[Record]:
        """Newest first. since: included; until: not."""
        query = sa.select(t.audit).order_by(t.audit.c.number.desc()).limit(limit)
        if since is not None:
            query = query.where(t.audit.c.at >= since.isoformat())
        if until is not None:
            query = query.where(t.audit.c.at < until.isoformat())
        with self._read() as c:
            return [{"at": row.at, **row.body} for row in c.execute(query)]


def _of_references(model: str) -> str:
    """The beginning of the names of the cursors with what is shown of a model's references."""
    return f"sketch/{model}/"
