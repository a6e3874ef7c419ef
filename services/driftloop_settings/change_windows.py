"""Hours of the week in which a rollout may give a candidate more traffic, such as
`Mon-Fri 09:00-16:30`."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_FORM = re.compile(r"(\w{3})(?:-(\w{3}))? (\d\d):(\d\d)-(\d\d):(\d\d)")
_DAY = 24 * 60


def change_window(text: str) -> str:
    """Return the text. Raises ValueError if it is not a window."""
    _parsed(text)
    return text


def open_at(windows: Sequence[str], timezone: str, now: datetime) -> bool:
    """Whether one of the windows is open; without any, all times are."""
    local = now.astimezone(ZoneInfo(timezone))
    minute = local.hour * 60 + local.minute
    return not windows or any(
        local.weekday() in days and begin <= minute < end
        for days, begin, end in map(_parsed, windows)
    )


def next_open(windows: Sequence[str], timezone: str, now: datetime) -> datetime:
    """Return the minute at which a window opens; `now` if one is open."""
    if open_at(windows, timezone, now):
        return now
    return _opens_after(tuple(windows), timezone, now.replace(second=0, microsecond=0))


@lru_cache(maxsize=64)
def _opens_after(windows: tuple[str, ...], timezone: str, minute: datetime) -> datetime:
    for _ in range(8 * _DAY):
        minute += timedelta(minutes=1)
        if open_at(windows, timezone, minute):
            break
    return minute


def _parsed(text: str) -> tuple[frozenset[int], int, int]:
    """Return the numbers of the days, and the minutes of the day of the beginning and the end."""
    found = _FORM.fullmatch(text)
    example = "such as `Mon-Fri 09:00-16:30`"
    if found is None:
        raise ValueError(f"{text!r} is not a change window, {example}")
    first, last, *clock = found.groups()
    for day in (first, last or first):
        if day not in DAYS:
            raise ValueError(f"{text!r}: {day!r} is not one of {', '.join(DAYS)}")
    hours = [int(value) for value in clock]
    begin, end = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
    if not 0 <= begin < end <= _DAY or max(hours[1], hours[3]) > 59:
        raise ValueError(
            f"{text!r}: the end must be after the beginning, on the same day (until 24:00); for a "
            "night give two windows"
        )
    length = (DAYS.index(last or first) - DAYS.index(first)) % 7 + 1
    days = frozenset((DAYS.index(first) + number) % 7 for number in range(length))
    return days, begin, end
