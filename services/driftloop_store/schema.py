"""Upgrades a store's tables by the migrations in this package."""

from pathlib import Path

import sqlalchemy as sa

from driftloop_contracts.errors import Unavailable

LOCK = 0x64726966746C6F70  # key of PostgreSQL's advisory lock; its bytes spell driftlop


def migrate(engine: sa.Engine, revision: str = "head") -> None:
    """Upgrade to a revision in one transaction; roles that start together take turns.

    Raises Unavailable if the store was written by a newer release.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    known = ScriptDirectory.from_config(config)
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        present = MigrationContext.configure(connection).get_current_revision()
        revisions = {script.revision for script in known.walk_revisions()}
        if present is not None and present not in revisions:
            raise Unavailable(
                f"the store {engine.url!s} was written by a newer release of driftloop: its schema "
                f"is {present}, this release knows up to {known.get_current_head()}. Install that "
                "release or a newer one, or restore a backup made before the upgrade."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
