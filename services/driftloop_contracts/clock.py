"""The clock as an argument, so that tests control the time."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the current time as an aware UTC datetime."""


def system_clock() -> datetime:
    """Return the system time in UTC."""
    return datetime.now(UTC)
