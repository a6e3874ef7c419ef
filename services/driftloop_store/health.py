"""Which roles are degraded, and when each was heard of last. Kept among the cursors."""

from hashlib import blake2b

import sqlalchemy as sa

from driftloop_contracts.health import Degraded, Heartbeat
from driftloop_store.readers import Readers
from driftloop_store.tables import cursors

PREFIX = "health:"
HEARTBEAT_PREFIX = "heartbeat:"


class RoleHealth(Readers):
    def degraded(self) -> list[Degraded]:
        """Return the degraded roles, longest failing first."""
        query = sa.select(cursors.c.body).where(cursors.c.name.startswith(PREFIX))
        with self._read() as c:
            found = [Degraded.from_dict(body) for body in c.execute(query).scalars()]
        return sorted(found, key=lambda degraded: degraded.since)

    def put_degraded(self, degraded: Degraded) -> None:
        self.put_cursor(PREFIX + degraded.key, degraded.to_dict(), degraded.subject)

    def drop_degraded(self, degraded: Degraded) -> None:
        self.drop_cursor(PREFIX + degraded.key, degraded.subject)

    def heartbeats(self) -> list[Heartbeat]:
        query = sa.select(cursors.c.body).where(cursors.c.name.startswith(HEARTBEAT_PREFIX))
        with self._read() as c:
            return [Heartbeat.from_dict(body) for body in c.execute(query).scalars()]

    def put_heartbeat(self, beat: Heartbeat) -> None:
        self.put_cursor(_heartbeat(beat), beat.to_dict())

    def drop_heartbeat(self, beat: Heartbeat) -> None:
        """Of a process that has ended."""
        self.drop_cursor(_heartbeat(beat))


def _heartbeat(beat: Heartbeat) -> str:
    """Each process has its own. A release before that had one for each role."""
    if not beat.machine:
        return HEARTBEAT_PREFIX + beat.role
    place = blake2b(beat.machine.encode(), digest_size=8).hexdigest()
    return f"{HEARTBEAT_PREFIX}{beat.role}@{place}:{beat.pid}"
