"""Which condition is the effect of another one: only the cause is sent."""

from collections.abc import Iterable

from driftloop_alerts.conditions import Condition
from driftloop_contracts.incident import Cause

BROKEN_DATA_HIDES = frozenset({Cause.DRIFT, Cause.PERFORMANCE, Cause.ESTIMATE, Cause.JUDGE})
OUTAGE_HIDES = frozenset({Cause.INCONCLUSIVE, Cause.LATE_LABELS, Cause.SCHEDULE_MISSED})
CARRIERS = frozenset({"kafka", "shipper", "archiver", "monitor"})
"""Roles between an answer and its window: while one of them fails as a whole, Kafka or the lake
is out of order, and no model can be judged."""

Key = tuple[str, Cause, str]


def hidden(found: Iterable[Condition]) -> dict[Key, Key]:
    """For each condition that is an effect, the condition that it is an effect of, by their
    (model, cause, subject)."""
    every = list(found)
    broken = {c.model: _key(c) for c in every if c.cause is Cause.QUALITY}
    measured = {c.model: _key(c) for c in every if c.cause is Cause.PERFORMANCE}
    outage = next((_key(c) for c in every if _is_outage(c)), None)
    causes: dict[Key, Key] = {}
    for condition in every:
        if condition.cause in BROKEN_DATA_HIDES and condition.model in broken:
            causes[_key(condition)] = broken[condition.model]
        elif condition.cause is Cause.ESTIMATE and condition.model in measured:
            causes[_key(condition)] = measured[condition.model]
        elif condition.cause in OUTAGE_HIDES and outage is not None:
            causes[_key(condition)] = outage
    return causes


def _is_outage(condition: Condition) -> bool:
    role = condition.subject.partition("/")[0]
    return condition.cause is Cause.ROLE and not condition.model and role in CARRIERS


def _key(condition: Condition) -> Key:
    return condition.model, condition.cause, condition.subject
