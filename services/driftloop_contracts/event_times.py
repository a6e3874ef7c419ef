"""The allowed times of events: one rule for HTTP and Kafka."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from driftloop_contracts.errors import Rejected, shown

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""Times outside this range are errors, and each would create a partition in the lake."""
AHEAD = timedelta(days=1)
"""Clients' clocks may be ahead by this much; later times are errors."""
SKEW = timedelta(days=1)
"""Our own clocks may differ by this much, so that the archiver does not refuse what HTTP
accepted."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Allows times from `EARLIEST` up to, not including, `latest`."""

    latest: datetime = LATEST

    @classmethod
    def at(cls, now: datetime) -> "Bounds":
        """Return the bounds for events that arrive at `now`."""
        return cls(now + AHEAD)

    def widened(self) -> "Bounds":
        """Return the bounds for events that another process has already accepted."""
        return Bounds(self.latest + SKEW)

    def check(self, time: datetime, what: str) -> datetime:
        """Return the time. Raises Rejected with a sentence that starts with `what`."""
        if time < EARLIEST:
            raise Rejected(f"{what} {time.isoformat()} is before {EARLIEST:%Y}")
        if time >= self.latest:
            until = self.latest.isoformat(timespec="seconds")
            raise Rejected(f"{what} {time.isoformat()} is in the future: it must be before {until}")
        return time


ANY_TIME = Bounds()


@lru_cache(maxsize=1024)
def _parsed(value: str) -> datetime:
    """All labels of a request have the same times."""
    parsed = datetime.fromisoformat(value)
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def parse_time(value: object, what: str) -> datetime:
    """Parse an ISO 8601 time, in UTC unless it has a zone. Raises Rejected with a sentence that
    starts with `what`."""
    try:
        if isinstance(value, str):
            return _parsed(value)
    except OverflowError:
        raise Rejected(f"{what} {shown(value)} is outside of the years 1 to 9999 in UTC") from None
    except ValueError:
        pass
    raise Rejected(
        f"{what} must be an ISO 8601 time such as 2026-11-24T12:00:00Z, not {shown(value)}"
    )
