"""Durations as people read and type them."""

import re

from driftloop_contracts.errors import Rejected

UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def seconds_of(duration: str, option: str) -> float:
    """Of 90s, 30m, 4h, 2d. Raises Rejected, naming the option."""
    match = re.fullmatch(r"(\d{1,6})([smhd])", duration.strip())
    if match is None or int(match[1]) == 0:
        raise Rejected(f"{option} {duration}: write a time such as 30m, 4h or 2d")
    return float(int(match[1]) * UNITS[match[2]])


def in_words(seconds: float) -> str:
    """A duration in its largest unit: `45 s`, `3 minutes`, `26 hours`, `4 days`."""
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def in_short(seconds: float | None) -> str:
    """For a table, with three digits: `45 s`, `1.5 min`, `26 h`, `4 d`; None: `–`."""
    if seconds is None:
        return "–"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
