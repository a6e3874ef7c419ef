"""One process at a time, on all machines that use a database."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from driftloop_store.engine import make_engine


@contextmanager
def database_lock(url: str, key: int) -> Iterator[None]:
    """Hold PostgreSQL's advisory lock `key` of the database at a SQLAlchemy URL while the block
    runs; it ends with the process. Nothing is locked on SQLite, which is a file of one machine, or
    on a server. Raises the driver's error if the database does not answer."""
    if not url.startswith("postgresql"):
        yield
        return
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_lock(key)))
            yield
    finally:
        engine.dispose()  # ends the connection, and so gives the lock back
