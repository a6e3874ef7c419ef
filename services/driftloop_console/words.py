"""Numbers and times as people read them."""

import json
from datetime import UTC, datetime
from typing import Any

CLIPPED_CHARS = 400


def number(value: float | None) -> str:
    """Four significant digits."""
    return "–" if value is None else f"{value:.4g}"


def count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.3g} %"


def time(value: datetime | str | None) -> str:
    """In UTC, to the second."""
    if not value:
        return "–"
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def clip(value: Any, chars: int = CLIPPED_CHARS) -> str:
    text = json.dumps(value) if isinstance(value, list | dict) else str(value)
    return text if len(text) <= chars else f"{text[:chars]}…"
