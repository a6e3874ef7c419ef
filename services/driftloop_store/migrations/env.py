"""Alembic's entry: `open_store` hands in the connection."""

from alembic import context

from driftloop_store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
