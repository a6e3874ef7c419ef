"""Incidents, their history, the outbox and its deliveries; and the newest records of one model are
found by an index."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

NAME, TIME, WORD = sa.String(64), sa.String(40), sa.String(16)


def upgrade() -> None:
    op.create_table(
        "incidents",
        sa.Column("id", NAME, primary_key=True),
        sa.Column("model", NAME, nullable=False, index=True),
        sa.Column("at", TIME, nullable=False, index=True),
        sa.Column("cause", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(128), nullable=False),
        sa.Column("urgency", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False, index=True),
        sa.Column("updated_at", TIME, nullable=False, index=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
    )
    where = sa.text("state != 'resolved'")
    op.create_index(
        "one_unresolved_incident", "incidents", ["model", "cause", "subject"], unique=True,
        sqlite_where=where, postgresql_where=where,
    )  # fmt: skip
    op.create_table(
        "incident_events",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("incident_id", NAME, nullable=False, index=True),
        sa.Column("at", TIME, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("id", NAME, primary_key=True),
        sa.Column("route", NAME, nullable=False),
        sa.Column("incident_id", NAME, nullable=False, index=True),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("delivery_id", NAME, index=True),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", NAME, primary_key=True),
        sa.Column("route", NAME, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("state", WORD, nullable=False, index=True),
        sa.Column("body", sa.JSON, nullable=False),
    )
    op.create_index("ix_deliveries_route_at", "deliveries", ["route", "at"])
    for table in ("windows", "findings", "decisions"):
        op.create_index(f"ix_{table}_model_at", table, ["model", "at", "id"])
