"""The tables of the first release, as it made them."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    state = sa.Column("state", sa.String(16), nullable=False)
    op.create_table(
        "deployments",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
    )
    _records("windows")
    _records("findings", sa.Column("severity", sa.String(16), nullable=False))
    _records("decisions")
    _records("alarms", state.copy())
    _records("retrains", state.copy())
    _records("rollouts", state.copy(), sa.Column("revision", sa.Integer, nullable=False))
    op.create_index("ix_retrains_state", "retrains", ["state"])
    op.create_index("ix_rollouts_state", "rollouts", ["state"])
    op.create_table(
        "rollout_events",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("rollout_id", sa.String(64), nullable=False),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
    )
    op.create_index("ix_rollout_events_rollout_id", "rollout_events", ["rollout_id"])
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
    )
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(190), primary_key=True),
        sa.Column("body", sa.JSON, nullable=False),
    )
    op.create_table(
        "ledger",
        sa.Column("replica", sa.String(128), primary_key=True),
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("served", sa.BigInteger, nullable=False),
        sa.Column("acked", sa.BigInteger, nullable=False),
        sa.Column("spooled", sa.BigInteger, nullable=False),
        sa.Column("dropped", sa.JSON, nullable=False),
    )


def _records(name: str, *columns: "sa.Column[Any]") -> None:
    op.create_table(
        name,
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("at", sa.String(40), nullable=False),
        *columns,
        sa.Column("body", sa.JSON, nullable=False),
    )
    op.create_index(f"ix_{name}_model", name, ["model"])
    op.create_index(f"ix_{name}_at", name, ["at"])
