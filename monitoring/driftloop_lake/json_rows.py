"""Rows of a query as JSON."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson


def json_line(row: object) -> str:
    """Times are ISO 8601 in UTC, NaN is null, whole numbers beyond 64 bits are texts."""
    return orjson.dumps(row, default=_plain, option=orjson.OPT_UTC_Z).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        whole = value == value.to_integral_value()
        if not whole:
            return float(value)
        # Beyond 64 bits as a text, because JSON readers would lose digits.
        return int(value) if -(2**63) <= value < 2**64 else str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)
