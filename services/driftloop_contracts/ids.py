"""Identifiers. Prediction ids are UUIDv7 (RFC 9562): they sort by time, so the lake prunes by them."""

import os
import time
from datetime import UTC, datetime
from typing import NewType
from uuid import UUID

PredictionId = NewType("PredictionId", str)
MAX_ID_CHARS = 128


def new_prediction_id() -> PredictionId:
    """A fresh UUIDv7 in its canonical 36-character form."""
    return uuid7(time.time_ns() // 1_000_000, int.from_bytes(os.urandom(10)))


def uuid7(unix_ms: int, random: int) -> PredictionId:
    """UUIDv7 from milliseconds since 1970 and 74 random bits (RFC 9562, 5.7)."""
    value = (unix_ms & (1 << 48) - 1) << 80
    value |= 0x7 << 76 | (random >> 62 & 0xFFF) << 64
    value |= 0b10 << 62 | random & (1 << 62) - 1
    digits = f"{value:032x}"
    return PredictionId(
        f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
    )


def time_of(prediction_id: str) -> datetime | None:
    """When a UUIDv7 id was made (UTC), or None for an id of another kind."""
    try:
        parsed = UUID(prediction_id)
    except ValueError:
        return None
    if parsed.version != 7:
        return None
    return datetime.fromtimestamp((parsed.int >> 80) / 1000, UTC)
