"""When a retrain that failed is tried again. Pure.

The retries of a retrain are records of their own, which name the attempt. A failure that follows
from the data, and one of a retrain that a person asked for, is not tried again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from driftloop_contracts.retrain import Retrain, RetrainState, retry_id

FACTOR = 4
"""Each delay is this many times the one before."""
STALE = timedelta(days=1)
"""A failure that is older is not tried again: a later alert or schedule decides."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """See RetrainSettings.retries and retry_delay_s."""

    retries: int
    delay_s: float


def retry_of(newest: Sequence[Retrain], policy: RetryPolicy, now: datetime) -> Retrain | None:
    """The retrain to request now, if any. newest: of one model, newest first. Its id follows from
    that of the failed one, so that asking again asks for the same."""
    last = newest[0] if newest else None
    if last is None or last.state is not RetrainState.FAILED or last.ended_at is None:
        return None
    if not last.retryable or last.trigger == "operator" or last.attempt > policy.retries:
        return None
    delay = timedelta(seconds=policy.delay_s * FACTOR ** (last.attempt - 1))
    if not delay <= now - last.ended_at < delay + STALE:
        return None
    attempt = last.attempt + 1
    because = last.reasons[0] if last.reasons else "no reason is known"
    return Retrain(
        id=retry_id(last.id),
        model=last.model,
        at=now,
        trigger=last.trigger,
        reason=f"attempt {attempt} of {policy.retries + 1}, as the one before failed: {because}",
        decision_id=last.decision_id,
        change_at=last.change_at,
        recipes=last.recipes,
        attempt=attempt,
    )
