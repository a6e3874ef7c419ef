"""The store: a handful of records that roles share, each write in one transaction.

Writers of a record that others may change name the revision that they read; a write on top of a
newer one changes nothing. Times are kept as ISO 8601 text in UTC, which sorts.
"""

from threading import Event

from driftloop_store.alerts import Alerts
from driftloop_store.changes import Changes
from driftloop_store.database import Record
from driftloop_store.deployments import Deployments
from driftloop_store.engine import StoreAway, make_engine
from driftloop_store.fleet import Fleet
from driftloop_store.health import RoleHealth
from driftloop_store.incidents import Incidents
from driftloop_store.judgements import Judgements
from driftloop_store.leases import Leases
from driftloop_store.loop_events import LoopEvents
from driftloop_store.newest import NewestRecords
from driftloop_store.replicas import Replicas
from driftloop_store.retention import Retention
from driftloop_store.retrains import Retrains
from driftloop_store.rollouts import Rollouts
from driftloop_store.schema import Schema, migrate, schema_of
from driftloop_store.tables import FINISHED_ROLLOUTS
from driftloop_store.tallies import Tallies

__all__ = [
    "FINISHED_ROLLOUTS",
    "Record",
    "Schema",
    "Store",
    "await_store",
    "look_at_store",
    "open_store",
]

FIRST_WAIT_S, MOST_WAIT_S = 0.25, 5.0


class Store(
    Deployments,
    Judgements,
    Alerts,
    Incidents,
    Retrains,
    Rollouts,
    Replicas,
    RoleHealth,
    Leases,
    NewestRecords,
    Fleet,
    Tallies,
    Changes,
    LoopEvents,
    Retention,
):
    """See the module. Safe to use from several threads and processes."""

    def bring_up_to_date(self) -> None:
        """Raises as `open_store` does."""
        with self._availability.noticed():
            migrate(self._engine)

    def schema(self) -> Schema:
        """Whether its tables are there and up to date; nothing is changed. Raises StoreAway, and
        Unavailable if the store was written by a newer release."""
        with self._availability.noticed():
            return schema_of(self._engine)

    def close(self) -> None:
        self._engine.dispose()


def open_store(url: str) -> Store:
    """Open the store at a SQLAlchemy URL and bring its tables up to date.

    Raises StoreAway if its database does not answer, Unavailable if the store was written by a
    newer release.
    """
    store = Store(make_engine(url))
    store.bring_up_to_date()
    return store


def look_at_store(url: str) -> Store:
    """A store that is only asked for its `schema`, and then for records."""
    return Store(make_engine(url))


def await_store(url: str, stop: Event) -> Store | None:
    """As `open_store`, but waits until the database answers; None if `stop` is set before."""
    store = Store(make_engine(url))
    wait_s = FIRST_WAIT_S
    while not stop.is_set():
        try:
            store.bring_up_to_date()
            return store
        except StoreAway:
            stop.wait(wait_s)
            wait_s = min(2 * wait_s, MOST_WAIT_S)
    store.close()
    return None
