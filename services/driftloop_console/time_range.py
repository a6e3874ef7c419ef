"""The time range of a page, from its URL: `last=24h`, or `from=` and `to=` as ISO 8601."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from driftloop_contracts.errors import Rejected, shown

UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
MOST = 10_000


@dataclass(frozen=True, slots=True)
class TimeRange:
    """None: open on that side."""

    since: datetime | None = None
    until: datetime | None = None


def time_range(query: Mapping[str, str], now: datetime) -> TimeRange:
    """Raises Rejected for what is not a range."""
    last = _length("last", query)
    if last is not None:
        return TimeRange(now - last)
    return TimeRange(_time("from", query.get("from", "")), _time("to", query.get("to", "")))


def compared(query: Mapping[str, str]) -> timedelta | None:
    """`compare=7d`: how long before is compared; None: nothing is. Raises Rejected."""
    return _length("compare", query)


def _length(name: str, query: Mapping[str, str]) -> timedelta | None:
    text = query.get(name, "")
    if not text:
        return None
    number, unit = text[:-1], UNITS.get(text[-1:])
    if unit is None or not number.isdecimal() or not 0 < int(number) <= MOST:
        raise Rejected(f"{name}={shown(text)}: write a number and m, h or d, such as {name}=24h")
    return int(number) * unit


def _time(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))  # a "+" that was not encoded
    except ValueError:
        raise Rejected(f"{name}={shown(text)}: write a time such as 2026-11-29T08:00:00Z") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
