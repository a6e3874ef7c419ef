"""Operational state: SQLAlchemy tables with Alembic migrations, on SQLite or PostgreSQL."""

from driftloop_store.store import Store, open_store

__all__ = ["Store", "open_store"]
