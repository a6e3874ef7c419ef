"""Cron expressions and time zones that a schedule can use."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

EXAMPLE = "such as `0 3 * * *`"
_CHANCE = re.compile(r"[hr](\(.*\))?(/\d+)?", re.IGNORECASE)
_ANY_TIME = datetime(2000, 1, 1)


def cron_expression(schedule: str | None) -> str | None:
    """The expression as it is given. Raises ValueError unless it has five columns, or six with the
    seconds, and comes again and again."""
    from croniter import croniter
    from croniter.croniter import CroniterError

    if schedule is None:
        return None
    columns = schedule.split()
    if not croniter.is_valid(schedule):
        raise ValueError(f"{schedule!r} is not a cron expression, {EXAMPLE}")
    if len(columns) > 6:
        raise ValueError(f"{schedule!r} has a column for the year: a regular retrain has none")
    if any(_CHANCE.fullmatch(column) for column in columns):
        raise ValueError(f"{schedule!r} means another time whenever it is read; give numbers")
    try:
        croniter(schedule, _ANY_TIME).get_next(datetime)
        croniter(schedule, _ANY_TIME).get_prev(datetime)
    except CroniterError:
        raise ValueError(f"{schedule!r} never comes: no calendar has such a date") from None
    return schedule


def time_zone(name: str) -> str:
    """The name as it is given. Raises ValueError for an unknown one."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone, such as Europe/Berlin") from None
    return name
