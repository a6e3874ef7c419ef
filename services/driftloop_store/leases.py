"""Leases: which of several processes may do what only one should do at a time. Kept among the
cursors."""

from datetime import datetime

import sqlalchemy as sa

from driftloop_store.database import Database
from driftloop_store.tables import cursors

PREFIX = "lease:"


class Leases(Database):
    def take_lease(self, name: str, holder: str, now: datetime, until: datetime) -> bool:
        """Whether the holder has the lease until then: it had it, or nobody did at `now`."""
        body = {"holder": holder, "until": until.timestamp()}
        insert = self._insert_into(cursors).values(name=PREFIX + name, body=body)
        held = cursors.c.body
        free = sa.or_(
            held["holder"].as_string() == holder, held["until"].as_float() < now.timestamp()
        )
        taken = insert.on_conflict_do_update(
            index_elements=["name"], set_={"body": insert.excluded.body}, where=free
        ).returning(cursors.c.name)
        with self._begin() as c:
            return c.execute(taken).first() is not None

    def give_back_lease(self, name: str, holder: str) -> None:
        """Another one may take it at once; nothing happens if it is not the holder's."""
        own = (cursors.c.name == PREFIX + name, cursors.c.body["holder"].as_string() == holder)
        with self._begin() as c:
            c.execute(sa.delete(cursors).where(*own))
