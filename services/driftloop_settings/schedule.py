"""Validates cron expressions and time zones of a schedule."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

EXAMPLE = "such as `0 3 * * *`"
_CHANCE = re.compile(r"[hr](\(.*\))?(/\d+)?", re.IGNORECASE)
_ANY_TIME = datetime(2000, 1, 1)


def cron_expression(schedule: str | None) -> str | None:
    """Return the expression. Raises ValueError unless it has five columns, or six with seconds, and
    recurs."""
    from croniter import croniter
    from croniter.croniter import CroniterError

    if schedule is None:
        return None
    columns = schedule.split()
    if not croniter.is_valid(schedule):
        raise ValueError(f"{schedule!r} is not a cron expression, {EXAMPLE}")
    if len(columns) > 6:
        raise ValueError(
            f"{schedule!r} has a column for the year, which a regular retrain cannot have"
        )
    if any(_CHANCE.fullmatch(column) for column in columns):
        raise ValueError(f"{schedule!r} has a random time; give numbers")
    try:
        croniter(schedule, _ANY_TIME).get_next(datetime)
        croniter(schedule, _ANY_TIME).get_prev(datetime)
    except CroniterError:
        raise ValueError(f"{schedule!r} never occurs: there is no such date") from None
    return schedule


def time_zone(name: str) -> str:
    """Return the name. Raises ValueError for an unknown time zone."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone, such as Europe/Berlin") from None
    return name
