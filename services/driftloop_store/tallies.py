"""Counts over the records of all models, each in one query: what is measured from outside."""

from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from driftloop_contracts.incident import IncidentState
from driftloop_contracts.judgement import CheckKind
from driftloop_store import tables as t
from driftloop_store.database import Database

DRIFT = (CheckKind.DRIFT, CheckKind.PREDICTION_DRIFT)


class Tallies(Database):
    def count_by_state(self, kind: Literal["retrains", "rollouts"]) -> dict[str, int]:
        state = t.metadata.tables[kind].c.state
        with self._read() as c:
            rows = c.execute(sa.select(state, sa.func.count()).group_by(state))
            return {found: int(count) for found, count in rows}

    def count_incidents(self) -> dict[tuple[str, str], int]:
        """Those that are not resolved, by model ("" for the whole stack) and urgency."""
        table = t.incidents
        groups = (table.c.model, table.c.urgency)
        query = sa.select(*groups, sa.func.count()).group_by(*groups)
        with self._read() as c:
            rows = c.execute(query.where(table.c.state != IncidentState.RESOLVED))
            return {(model, urgency): int(count) for model, urgency, count in rows}

    def count_alerts(self, since: datetime) -> dict[str, int]:
        """Those raised since then, by the kind of the check."""
        kind = t.alerts.c.body["kind"].as_string()
        query = sa.select(kind, sa.func.count()).where(t.alerts.c.at >= since.isoformat())
        with self._read() as c:
            return {found: int(count) for found, count in c.execute(query.group_by(kind))}

    def count_waiting_notices(self) -> int:
        """Messages about incidents that no delivery has taken on."""
        query = sa.select(sa.func.count()).where(t.outbox.c.delivery_id.is_(None))
        with self._read() as c:
            return int(c.execute(query).scalar_one())

    def drift_effects(self) -> dict[str, float]:
        """The largest effect among the drift findings of the newest window, by model; a model
        without one is left out."""
        windows, findings = t.windows, t.findings
        newest = (
            sa.select(windows.c.at)
            .where(windows.c.model == t.deployments.c.model)
            .order_by(windows.c.at.desc())
            .limit(1)
            .correlate(t.deployments)
            .scalar_subquery()
        )
        query = (
            sa.select(findings.c.model, sa.func.max(findings.c.body["effect"].as_float()))
            .join_from(
                t.deployments,
                findings,
                (findings.c.model == t.deployments.c.model) & (findings.c.at == newest),
            )
            .where(findings.c.body["kind"].as_string().in_(DRIFT))
            .group_by(findings.c.model)
        )
        with self._read() as c:
            return {model: float(effect) for model, effect in c.execute(query)}
