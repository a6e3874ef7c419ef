"""Append-only records: windows, findings, decisions and the audit log."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from driftloop_contracts.judgement import Decision, Finding, Window
from driftloop_store import tables as t
from driftloop_store.database import Database, Record


class Judgements(Database):
    def add_window(self, w: Window) -> None:
        self._append(t.windows, w.window_id, w.model, w.ended_at, w.to_dict())

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

    def audits(self, limit: int = 100) -> list[Record]:
        with self._begin() as c:
            query = sa.select(t.audit).order_by(t.audit.c.number.desc()).limit(limit)
            return [{"at": row.at, **row.body} for row in c.execute(query)]
