"""Leases: which of several processes may do what only one should do at a time. Kept among the
cursors.

A role that runs several times shares out its work: each process is a member and holds the leases
of its part. The times of shared leases are the database's, so that machines whose clocks differ
agree.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime

import sqlalchemy as sa

from driftloop_contracts.clock import system_clock
from driftloop_store.database import Database
from driftloop_store.sharing import Shared, share_out
from driftloop_store.tables import cursors

PREFIX = "lease:"
MEMBER = "member:"
_held = cursors.c.body


class Leases(Database):
    def take_lease(self, name: str, holder: str, now: datetime, until: datetime) -> bool:
        """Whether the holder has the lease until then: it had it, or nobody did at `now`."""
        with self._begin() as c:
            return bool(self._take_leases(c, [PREFIX + name], holder, now, until))

    def give_back_lease(self, name: str, holder: str) -> None:
        """Another one may take it at once; nothing happens if it is not the holder's."""
        with self._begin() as c:
            c.execute(sa.delete(cursors).where(cursors.c.name == PREFIX + name, _is(holder)))

    def share(
        self, role: str, holder: str, wanted: Collection[str], lasts_s: float, most: int | None
    ) -> frozenset[str]:
        """Take this process's part of the wanted work for `lasts_s`, give back what is more, and
        return the part. most: it takes no more than that."""
        with self._begin() as c:
            now = self._time(c)
            until = datetime.fromtimestamp(now.timestamp() + lasts_s, UTC)
            self._take_leases(c, [_member(role, holder)], holder, now, until)
            leases, members = lease_of(role, ""), _member(role, "")
            found = sa.select(cursors.c.name, cursors.c.body).where(
                sa.or_(_begins(leases), _begins(members))
            )
            live, shared = set(), {}
            for name, body in c.execute(found):
                lives = body["until"] >= now.timestamp()
                if name.startswith(leases):
                    shared[name.removeprefix(leases)] = Shared(body["holder"], lives)
                elif lives:
                    live.add(body["holder"])
            plan = share_out(shared, holder, live, wanted, most)
            gone = [leases + one for one in plan.give_back]
            c.execute(sa.delete(cursors).where(cursors.c.name.in_(gone), _is(holder)))
            names = [leases + one for one in plan.take]
            taken = self._take_leases(c, names, holder, now, until)
        return frozenset(name.removeprefix(leases) for name in taken)

    def renew_shares(self, role: str, holder: str, lasts_s: float) -> frozenset[str]:
        """Keep what this process still holds for `lasts_s` more, and return it."""
        leases = lease_of(role, "")
        own = sa.select(cursors.c.name).where(_begins(leases), _is(holder))
        with self._begin() as c:
            now = self._time(c)
            until = datetime.fromtimestamp(now.timestamp() + lasts_s, UTC)
            names = [_member(role, holder), *c.execute(own).scalars()]
            kept = self._take_leases(c, names, holder, now, until)
        return frozenset(n.removeprefix(leases) for n in kept if n.startswith(leases))

    def give_back_shares(self, role: str, holder: str) -> None:
        """Others may take this process's part at once."""
        of_role = sa.or_(_begins(lease_of(role, "")), _begins(_member(role, "")))
        with self._begin() as c:
            c.execute(sa.delete(cursors).where(of_role, _is(holder)))

    def now(self) -> datetime:
        """The database's time, the same for all machines."""
        with self._read() as c:
            return self._time(c)

    def _time(self, c: sa.Connection) -> datetime:
        if self._engine.dialect.name == "sqlite":  # a file of this machine
            return system_clock()
        found: datetime = c.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return found

    def _take_leases(
        self, c: sa.Connection, names: Iterable[str], holder: str, now: datetime, until: datetime
    ) -> list[str]:
        """Those that are the holder's now. In the order of their names, so that two who take the
        same ones do not wait for each other."""
        body = {"holder": holder, "until": until.timestamp()}
        rows = [{"name": name, "body": body} for name in sorted(names)]
        if not rows:
            return []
        insert = self._insert_into(cursors).values(rows)
        free = sa.or_(_is(holder), _held["until"].as_float() < now.timestamp())
        taken = insert.on_conflict_do_update(
            index_elements=["name"], set_={"body": insert.excluded.body}, where=free
        ).returning(cursors.c.name)
        return list(c.execute(taken).scalars())


def _is(holder: str) -> sa.ColumnElement[bool]:
    found: sa.ColumnElement[bool] = _held["holder"].as_string() == holder
    return found


def _begins(prefix: str) -> sa.ColumnElement[bool]:
    return cursors.c.name.startswith(prefix, autoescape=True)


def lease_of(role: str, one: str) -> str:
    """The name of the cursor with the lease of a part of a role's work."""
    return f"{PREFIX}{role}/{one}"


def _member(role: str, holder: str) -> str:
    return f"{MEMBER}{role}/{holder}"
