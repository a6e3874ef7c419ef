"""The operational state: SQLAlchemy tables with Alembic migrations, on SQLite or PostgreSQL."""

from driftloop_store.engine import StoreAway
from driftloop_store.store import Store, await_store, open_store

__all__ = ["Store", "StoreAway", "await_store", "open_store"]
