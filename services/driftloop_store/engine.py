"""The engine of a store, and the handling of a database that does not answer.

Only this module decides what unavailable means: driver errors for a database that is away,
stopping, starting or out of space become `StoreAway`, and both the outage and the recovery are
logged once. Roles wait and retry, the control API answers 503, and replicas continue to serve and
capture. Any other driver error is a bug and is passed on.
"""

import json
import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from driftloop_contracts.errors import RetryLater

log = structlog.get_logger()

READ_ONLY = {"driftloop_read_only": True}
"""Execution options of a connection that only reads: on SQLite it then waits for no writer."""
_LIBPQ = {
    # Without limits, a host that vanished would block a role for a quarter of an hour.
    "connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}  # fmt: skip
_SQLITE_AWAY = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
)  # fmt: skip


class StoreAway(RetryLater):
    """The store's database does not answer. The message may be shown to a client; `reason` is the
    driver's message for logs and operators."""

    def __init__(self, reason: str) -> None:
        super().__init__("the store does not answer now; try again")
        self.reason = reason


def make_engine(url: str) -> sa.Engine:
    """Create the engine, which connects on first use."""
    target = sa.make_url(url)
    if target.get_backend_name() == "sqlite":
        engine = sa.create_engine(target, json_deserializer=_json)
        _configure_sqlite(engine)
        return engine
    # The pool logs a traceback for each broken connection; we log the outage once.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    libpq = target.get_driver_name().startswith("psycopg")
    given = {name: value for name, value in _LIBPQ.items() if name not in target.query}
    # Replace a connection that broke while idle before it is used.
    return sa.create_engine(
        target, json_deserializer=_json, pool_pre_ping=True, connect_args=given if libpq else {}
    )


def _json(text: str | bytes) -> Any:
    """A third of the time of the standard parser, which alone reads NaN."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def _configure_sqlite(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # SQLAlchemy's `begin` below issues BEGIN itself
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA busy_timeout=15000")
        connection.execute("PRAGMA synchronous=NORMAL")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A deferred transaction that later writes can fail with BUSY at once; this one waits.
        reads = connection.get_execution_options().items() >= READ_ONLY.items()
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


class Availability:
    """Tracks whether a database answers."""

    def __init__(self, engine: sa.Engine) -> None:
        self._store = engine.url.render_as_string(hide_password=True)
        self._away_since: float | None = None

    @contextmanager
    def noticed(self) -> Iterator[None]:
        """Raise StoreAway if the database does not answer in the block."""
        try:
            yield
        except DBAPIError as error:
            if not _is_away(error):
                raise
            reason = str(error.orig).strip().partition("\n")[0]
            if self._away_since is None:
                self._away_since = time.monotonic()
                log.warning("store.away", store=self._store, reason=reason)
            raise StoreAway(reason) from error
        if self._away_since is not None:
            away_s = round(time.monotonic() - self._away_since, 1)
            self._away_since = None
            log.info("store.back", store=self._store, away_s=away_s)


def _is_away(error: DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.Error):
        # SQLite also reports a missing table as an operational error.
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        return code in _SQLITE_AWAY
    return isinstance(error, OperationalError | InterfaceError)
