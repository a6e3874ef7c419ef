"""When a delivery that failed is tried again. Pure."""

from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import blake2b

from driftloop_contracts.incident import Delivery, DeliveryState

FIRST_S, MOST_S = 2.0, 600.0
LONGEST_WISH_S = 3_600.0
"""A receiver may ask for so long a pause (`Retry-After`)."""
FAILS = 3
"""Attempts after which the route itself is an incident."""


def after_failure(
    delivery: Delivery, error: str, now: datetime, retry_after_s: float | None = None
) -> Delivery:
    """To be tried again: after 2, 4, 8 … 600 s, less up to a quarter so that routes spread, or
    when the receiver asks for it if that is later."""
    attempts = delivery.attempts + 1
    pause_s = min(MOST_S, FIRST_S * 2.0 ** min(attempts - 1, 20))
    pause_s *= 1 - 0.25 * _fraction(f"{delivery.id}/{attempts}")
    if retry_after_s is not None:
        pause_s = max(pause_s, min(retry_after_s, LONGEST_WISH_S))
    return replace(
        delivery, attempts=attempts, error=error[:500], next_at=now + timedelta(seconds=pause_s)
    )


def after_success(delivery: Delivery, now: datetime) -> Delivery:
    return replace(
        delivery,
        attempts=delivery.attempts + 1,
        error="",
        state=DeliveryState.SENT,
        sent_at=now,
    )


def _fraction(text: str) -> float:
    return blake2b(text.encode(), digest_size=1).digest()[0] / 256
