"""Changes are counted for each model; records of a model are found by their time."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

RECORDS = ("alerts", "retrains", "rollouts", "incidents")  # others: revision 0004


def upgrade() -> None:
    op.create_table(
        "changes",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    for table in RECORDS:
        op.create_index(f"ix_{table}_model_at", table, ["model", "at", "id"])
    op.create_index("ix_alerts_state", "alerts", ["state"])
