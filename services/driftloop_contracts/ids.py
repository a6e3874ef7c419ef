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
    return PredictionId(str(uuid7(time.time_ns() // 1_000_000, os.urandom(10))))


def uuid7(unix_ms: int, random: bytes) -> UUID:
    """UUIDv7 from milliseconds since 1970 and 10 random bytes (RFC 9562, 5.7)."""
    tail = int.from_bytes(random, "big")
    value = (unix_ms & (1 << 48) - 1) << 80
    value |= 0x7 << 76 | (tail >> 64 & 0xFFF) << 64
    value |= 0b10 << 62 | (tail & (1 << 62) - 1)
    return UUID(int=value)


def time_of(prediction_id: str) -> datetime | None:
    """When a UUIDv7 id was made (UTC), or None for an id of another kind."""
    try:
        parsed = UUID(prediction_id)
    except ValueError:
        return None
    if parsed.version != 7:
        return None
    return datetime.fromtimestamp((parsed.int >> 80) / 1000, UTC)
