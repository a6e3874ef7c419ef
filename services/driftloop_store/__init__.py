"""The operational state: SQLAlchemy tables with Alembic migrations, on SQLite or PostgreSQL."""

from driftloop_store.engine import StoreAway
from driftloop_store.store import Schema, Store, await_store, look_at_store, open_store

__all__ = ["Schema", "Store", "StoreAway", "await_store", "look_at_store", "open_store"]
