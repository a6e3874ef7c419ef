"""Spans of time as people type them."""

import re

from driftloop_contracts.errors import Rejected

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def seconds_of(duration: str, option: str) -> float:
    """Of 90s, 30m, 4h, 2d. Raises Rejected, naming the option."""
    match = re.fullmatch(r"(\d{1,6})([smhd])", duration.strip())
    if match is None or int(match[1]) == 0:
        raise Rejected(f"{option} {duration}: write a time such as 30m, 4h or 2d")
    return float(int(match[1]) * UNITS[match[2]])
