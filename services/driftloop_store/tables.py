"""The tables. Records that are only read by people and the console store their fields in one JSON
column, `body`."""

from typing import Any

import sqlalchemy as sa

from driftloop_contracts.retrain import ACTIVE

metadata = sa.MetaData()
FINISHED_ROLLOUTS = ("promoted", "rolled_back", "aborted")


def _records(name: str, *columns: "sa.Column[Any]") -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(64), nullable=False, index=True),
        sa.Column("at", sa.String(40), nullable=False, index=True),
        *columns,
        sa.Column("body", sa.JSON, nullable=False),
    )


def _one_for_each_model(name: str, table: sa.Table, active: sa.ColumnElement[bool]) -> None:
    sa.Index(name, table.c.model, unique=True, sqlite_where=active, postgresql_where=active)


deployments = sa.Table(
    "deployments",
    metadata,
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
)
changes = sa.Table(
    "changes",
    metadata,
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
)
loop_events = sa.Table(
    "loop_events",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("model", sa.String(64), nullable=False),
    sa.Column("record_id", sa.String(64), nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
)
windows = _records("windows")
sketches = _records("sketches")
findings = _records("findings", sa.Column("severity", sa.String(16), nullable=False))
decisions = _records("decisions")
alerts = _records(
    "alerts",
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("revision", sa.Integer, nullable=False, server_default="1"),
)
retrains = _records(
    "retrains",
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("revision", sa.Integer, nullable=False, server_default="1"),
)
rollouts = _records(
    "rollouts",
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("revision", sa.Integer, nullable=False),
)
incidents = _records(
    "incidents",
    sa.Column("cause", sa.String(32), nullable=False),
    sa.Column("subject", sa.String(128), nullable=False),
    sa.Column("urgency", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("updated_at", sa.String(40), nullable=False, index=True),
    sa.Column("revision", sa.Integer, nullable=False),
)
_unresolved = incidents.c.state != "resolved"
sa.Index(
    "one_unresolved_incident",
    *(incidents.c.model, incidents.c.cause, incidents.c.subject),
    unique=True,
    sqlite_where=_unresolved,
    postgresql_where=_unresolved,
)
incident_events = sa.Table(
    "incident_events",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("incident_id", sa.String(64), nullable=False, index=True),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
)
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("route", sa.String(64), nullable=False),
    sa.Column("incident_id", sa.String(64), nullable=False, index=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("at", sa.String(40), nullable=False),
    # Of the delivery that took it on; NULL: it waits.
    sa.Column("delivery_id", sa.String(64), index=True),
)
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("route", sa.String(64), nullable=False),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("body", sa.JSON, nullable=False),
)
sa.Index("ix_deliveries_route_at", deliveries.c.route, deliveries.c.at)
for _table in (windows, sketches, findings, decisions, alerts, retrains, rollouts, incidents):
    # The newest of one model among the many of all.
    sa.Index(f"ix_{_table.name}_model_at", _table.c.model, _table.c.at, _table.c.id)
_one_for_each_model("one_active_retrain", retrains, retrains.c.state.in_(ACTIVE))
_one_for_each_model("one_active_rollout", rollouts, rollouts.c.state.not_in(FINISHED_ROLLOUTS))
rollout_events = sa.Table(
    "rollout_events",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("rollout_id", sa.String(64), nullable=False, index=True),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
)
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
)
cursors = sa.Table(
    "cursors",
    metadata,
    sa.Column("name", sa.String(190), primary_key=True),
    sa.Column("body", sa.JSON, nullable=False),
)
ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("replica", sa.String(128), primary_key=True),
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    # In rows, so that they are comparable with the lake.
    sa.Column("served", sa.BigInteger, nullable=False),
    sa.Column("acked", sa.BigInteger, nullable=False),
    sa.Column("spooled", sa.BigInteger, nullable=False),
    sa.Column("dropped", sa.JSON, nullable=False),
)
