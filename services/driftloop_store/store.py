"""The store: a handful of records that roles share, each write in one transaction.

Writers of a record that others may change name the revision that they read; a write on top of a
newer one changes nothing. Times are kept as ISO 8601 text in UTC, which sorts.
"""

from typing import Any

import sqlalchemy as sa

from driftloop_store.alerts import Alerts
from driftloop_store.database import Record
from driftloop_store.deployments import Deployments
from driftloop_store.judgements import Judgements
from driftloop_store.replicas import Replicas
from driftloop_store.retrains import Retrains
from driftloop_store.rollouts import Rollouts
from driftloop_store.schema import migrate
from driftloop_store.tables import FINISHED_ROLLOUTS

__all__ = ["FINISHED_ROLLOUTS", "Record", "Store", "open_store"]


class Store(Deployments, Judgements, Alerts, Retrains, Rollouts, Replicas):
    """See the module. Safe to use from several threads and processes."""

    def close(self) -> None:
        self._engine.dispose()


def open_store(url: str) -> Store:
    """Open the store at a SQLAlchemy URL and bring its tables up to date.

    Raises Unavailable if the store was written by a newer release.
    """
    engine = sa.create_engine(url)
    if engine.dialect.name == "sqlite":
        _configure_sqlite(engine)
    migrate(engine)
    return Store(engine)


def _configure_sqlite(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # SQLAlchemy's `begin` below says BEGIN itself
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA busy_timeout=15000")
        connection.execute("PRAGMA synchronous=NORMAL")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A deferred transaction that later writes can fail with BUSY at once; this one waits.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
