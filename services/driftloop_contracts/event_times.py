"""Times that events may have: one rule for all ways in, HTTP and Kafka."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from driftloop_contracts.errors import Rejected, shown

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""Times outside are mistakes; each would open a partition of its own in the lake."""
AHEAD = timedelta(days=1)
"""The clocks of clients may be this far ahead; a later time is a mistake."""
SKEW = timedelta(days=1)
"""Our own clocks may differ by this much: the archiver must not refuse what HTTP accepted."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Times from `EARLIEST`, before `latest`."""

    latest: datetime = LATEST

    @classmethod
    def at(cls, now: datetime) -> "Bounds":
        """Of what arrives at `now`."""
        return cls(now + AHEAD)

    def widened(self) -> "Bounds":
        """Of what another process has accepted already."""
        return Bounds(self.latest + SKEW)

    def check(self, time: datetime, what: str) -> datetime:
        """The time. Raises Rejected with a sentence that begins with `what`."""
        if time < EARLIEST:
            raise Rejected(f"{what} {time.isoformat()} is before {EARLIEST:%Y}")
        if time >= self.latest:
            until = self.latest.isoformat(timespec="seconds")
            raise Rejected(f"{what} {time.isoformat()} is in the future: it must be before {until}")
        return time


ANY_TIME = Bounds()


def parse_time(value: object, what: str) -> datetime:
    """A time that somebody wrote, in UTC; one without a zone is in UTC. Raises Rejected with a
    sentence that begins with `what`."""
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else None
        if parsed is not None:
            return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except OverflowError:
        raise Rejected(f"{what} {shown(value)} is outside of the years 1 to 9999 in UTC") from None
    except ValueError:
        pass
    raise Rejected(
        f"{what} must be an ISO 8601 time such as 2026-11-24T12:00:00Z, not {shown(value)}"
    )
