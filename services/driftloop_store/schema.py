"""Upgrades a store's tables by the migrations in this package."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from driftloop_contracts.errors import Unavailable
from driftloop_store.engine import READ_ONLY

if TYPE_CHECKING:
    from alembic.config import Config

LOCK = 0x64726966746C6F70  # key of PostgreSQL's advisory lock; its bytes spell driftlop


class Schema(StrEnum):
    """Of a store, compared with this release."""

    MISSING = "missing"  # nobody has started a stack with it
    OLDER = "older"  # the next start upgrades it
    CURRENT = "current"


def schema_of(engine: sa.Engine) -> Schema:
    """Only reads. Raises Unavailable if the store was written by a newer release."""
    url = engine.url
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        return Schema.MISSING
    with engine.connect() as connection:
        connection.execution_options(**READ_ONLY)
        present, head = _revisions(connection, _config())
    if present is None:
        return Schema.MISSING
    return Schema.CURRENT if present == head else Schema.OLDER


def migrate(engine: sa.Engine, revision: str = "head") -> None:
    """Upgrade to a revision in one transaction; roles that start together take turns.

    Raises Unavailable if the store was written by a newer release.
    """
    from alembic import command

    config = _config()
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        _revisions(connection, config)
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _revisions(connection: sa.Connection, config: "Config") -> tuple[str | None, str | None]:
    """The store's, and this release's. Raises Unavailable if this release does not know it."""
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    known = ScriptDirectory.from_config(config)
    present = MigrationContext.configure(connection).get_current_revision()
    revisions = {script.revision for script in known.walk_revisions()}
    if present is not None and present not in revisions:
        raise Unavailable(
            f"the store {connection.engine.url!s} was written by a newer release of driftloop: its "
            f"schema is {present}, this release knows up to {known.get_current_head()}. Install "
            "that release or a newer one, or restore a backup made before the upgrade."
        )
    return present, known.get_current_head()
