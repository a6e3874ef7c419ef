"""What charts show of a window's columns."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "sketches",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(64), nullable=False, index=True),
        sa.Column("at", sa.String(40), nullable=False, index=True),
        sa.Column("body", sa.JSON, nullable=False),
    )
    op.create_index("ix_sketches_model_at", "sketches", ["model", "at", "id"])
