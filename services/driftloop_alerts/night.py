"""What the digest says of a day's decisions: retrains and rollouts that ended, and schedules that
trained nothing. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

KEPT_OPEN = timedelta(hours=1)
"""A day's digest lasts so much longer than the day, so that it is sent before it is over."""
_RETRAINS = {"succeeded": "made version", "rejected": "was refused by the gate", "failed": "failed"}
_ROLLOUTS = {"promoted": "was promoted", "rolled_back": "was rolled back"}


@dataclass(frozen=True, slots=True)
class Night:
    """The time from one digest to the next, and a line for each model and decision in it."""

    since: datetime
    until: datetime
    lines: tuple[str, ...]


def period(now: datetime, digest_at: time, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The day that the next digest is of, in UTC as `now` is."""
    at = now - KEPT_OPEN
    today = at.astimezone(zone).date()
    until = _wall(today, digest_at, zone, now)
    if until <= at:
        today += timedelta(days=1)
        until = _wall(today, digest_at, zone, now)
    return _wall(today - timedelta(days=1), digest_at, zone, now), until


def night_of(
    since: datetime,
    until: datetime,
    retrains: Iterable[Mapping[str, Any]],
    rollouts: Iterable[Mapping[str, Any]],
    decisions: Iterable[Mapping[str, Any]],
) -> Night:
    """Of records as the store has them, in any order."""
    found = [
        line
        for line in (*_ended(retrains), *_rolled_out(rollouts), *_schedules(decisions))
        if since <= line[0] < until
    ]
    return Night(since, until, tuple(f"{model} {said}" for _, model, said in sorted(found)))


def _wall(day: date, at: time, zone: ZoneInfo, now: datetime) -> datetime:
    return datetime.combine(day, at, zone).astimezone(now.tzinfo)


def _ended(retrains: Iterable[Mapping[str, Any]]) -> Iterator[tuple[datetime, str, str]]:
    for each in retrains:
        said = _RETRAINS.get(each["state"])
        if said is None or not each.get("ended_at"):
            continue
        attempt = f" (attempt {each['attempt']})" if each.get("attempt", 1) > 1 else ""
        reasons = "; ".join(each.get("reasons") or ())
        what = str(each.get("version")) if each["state"] == "succeeded" else f"({reasons})"
        yield (
            datetime.fromisoformat(each["ended_at"]),
            each["model"],
            f"retrain by {each.get('trigger') or 'operator'}{attempt} {said} {what}",
        )


def _rolled_out(rollouts: Iterable[Mapping[str, Any]]) -> Iterator[tuple[datetime, str, str]]:
    for each in rollouts:
        history = each.get("history") or ()
        if each["state"] in _ROLLOUTS and history:
            candidate = each["candidate"]
            version = candidate["version"] if isinstance(candidate, Mapping) else candidate
            yield (
                datetime.fromisoformat(history[-1]["at"]),
                each["model"],
                f"version {version} {_ROLLOUTS[each['state']]}",
            )


def _schedules(decisions: Iterable[Mapping[str, Any]]) -> Iterator[tuple[datetime, str, str]]:
    for each in decisions:
        if each["trigger"] == "schedule" and each["verdict"] == "wait":
            yield datetime.fromisoformat(each["at"]), each["model"], f"no retrain: {each['reason']}"
