"""The database itself admits one active retrain and one active rollout for each model; alerts and
retrains count their revisions."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ACTIVE = {
    "retrain": "state IN ('requested', 'running')",
    "rollout": "state NOT IN ('promoted', 'rolled_back', 'aborted')",
}


def upgrade() -> None:
    for table in ("alerts", "retrains"):
        column = sa.Column("revision", sa.Integer, nullable=False, server_default="1")
        op.add_column(table, column)
    for record, active in ACTIVE.items():
        where = sa.text(active)
        op.create_index(
            f"one_active_{record}", f"{record}s", ["model"], unique=True,
            sqlite_where=where, postgresql_where=where,
        )  # fmt: skip
