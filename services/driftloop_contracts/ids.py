"""Identifiers. Prediction ids are UUIDv7 (RFC 9562): they sort by time, so the lake can skip files
by id."""

import os
import random
import time
from datetime import UTC, datetime
from typing import NewType
from uuid import UUID

PredictionId = NewType("PredictionId", str)
MAX_ID_CHARS = 128


_random = random.Random()  # ids must be unique, not unguessable
os.register_at_fork(after_in_child=_random.seed)


def new_prediction_id() -> PredictionId:
    """Return a new UUIDv7 in its canonical 36-character form."""
    return uuid7(time.time_ns() // 1_000_000, _random.getrandbits(74))


def uuid7(unix_ms: int, bits: int) -> PredictionId:
    """Build a UUIDv7 from milliseconds since 1970 and 74 random bits (RFC 9562, 5.7)."""
    return PredictionId(
        f"{unix_ms >> 16:08x}-{unix_ms & 0xFFFF:04x}-7{bits >> 62:03x}"
        f"-{0x8000 | bits >> 48 & 0x3FFF:04x}-{bits & 0xFFFF_FFFF_FFFF:012x}"
    )


def time_of(prediction_id: str) -> datetime | None:
    """Return when a UUIDv7 id was created (UTC); None for other ids or an impossible time."""
    try:
        parsed = UUID(prediction_id)
    except ValueError:
        return None
    if parsed.version != 7:
        return None
    try:
        return datetime.fromtimestamp((parsed.int >> 80) / 1000, UTC)
    except ValueError:  # 48 bits extend beyond the year 9999
        return None
