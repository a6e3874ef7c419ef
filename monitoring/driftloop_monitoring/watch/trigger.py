"""Decides when a model is retrained: a pure policy over measurements. Every decision has a reason.

A measured rise of the error retrains. Drift alone only warns, because real inputs drift all the
time, mostly without harm. Broken data never retrain, because the model would learn the fault. The
error of a language model that was always poor does not rise, so enough corrections retrain it.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from driftloop_contracts.errors import Rejected

Trigger = Literal["alert", "schedule", "corrections"]


@dataclass(frozen=True, slots=True)
class TriggerPolicy:
    """See TriggerSettings. margin: an alert counts while the mean loss is at least half of this
    above the baseline. min_corrections: the number of corrections that retrains a language
    model."""

    cooldown_s: float
    min_fresh_labels: int
    margin: float
    schedule: str | None = None
    timezone: str = "UTC"
    min_corrections: int | None = None


@dataclass(frozen=True, slots=True)
class TriggerEvidence:
    """What the monitor knows about a model. Times are aware, UTC.

    alert: whether the performance test has alerted. rise: the mean loss since the change minus the
    baseline. labels_since_change, labels: judged rows since the change, and since the champion was
    promoted or last retrained. broken, drifted: columns in the newest judged window. schedule_due:
    the missed or current run of the schedule, None if none is due. corrections: answers that were
    corrected, or ranked below a better one, since the last retrain was requested.
    """

    champion: int
    retrainable: bool
    alert: bool = False
    change_at: datetime | None = None
    rise: float = 0.0
    labels_since_change: int = 0
    labels: int = 0
    broken: tuple[str, ...] = ()
    drifted: tuple[str, ...] = ()
    active_retrain: str | None = None
    active_rollout: str | None = None
    last_retrain_at: datetime | None = None
    schedule_due: datetime | None = None
    corrections: int = 0

    def to_dict(self) -> dict[str, Any]:
        times = {
            k: v.isoformat() if v else None
            for k, v in (
                ("change_at", self.change_at),
                ("last_retrain_at", self.last_retrain_at),
                ("schedule_due", self.schedule_due),
            )
        }
        return {**asdict(self), "broken": list(self.broken), "drifted": list(self.drifted), **times}


@dataclass(frozen=True, slots=True)
class TriggerDecision:
    """A decision of the policy. `topic` is the reason without its changing numbers; only a new
    topic is recorded."""

    trigger: Trigger
    verdict: Literal["retrain", "wait"]
    topic: str
    reason: str


def evaluate(
    evidence: TriggerEvidence, policy: TriggerPolicy, now: datetime
) -> TriggerDecision | None:
    """Decide at `now`; None if nothing calls for a retrain."""
    e = evidence
    if e.alert:
        return _decision("alert", e, policy, now, e.labels_since_change, _because_of_error(e))
    if e.schedule_due is not None:
        because = f"the schedule `{policy.schedule}` was due at {e.schedule_due.isoformat()}"
        return _decision("schedule", e, policy, now, e.labels, because)
    if policy.min_corrections is not None and e.corrections >= policy.min_corrections:
        because = f"{e.corrections} answers were corrected since the last retrain"
        return _decision("corrections", e, policy, now, e.labels, because)
    if e.broken:
        reason = f"the data are broken ({', '.join(e.broken)}): a retrain would learn the fault"
        return TriggerDecision("alert", "wait", "broken", reason)
    if e.drifted:
        reason = (
            f"inputs or outputs moved ({', '.join(e.drifted)}), but no rise of the error "
            f"is measured"
        )
        return TriggerDecision("alert", "wait", "drift_alone", reason)
    return None


def _because_of_error(e: TriggerEvidence) -> str:
    since = f" since {e.change_at.isoformat(timespec='seconds')}" if e.change_at else ""
    return f"the measured error rose by {e.rise:.3f}{since}"


def _decision(
    trigger: Trigger,
    e: TriggerEvidence,
    policy: TriggerPolicy,
    now: datetime,
    labels: int,
    because: str,
) -> TriggerDecision:
    def wait(topic: str, reason: str) -> TriggerDecision:
        return TriggerDecision(trigger, "wait", topic, f"{because}, but {reason}")

    if not e.retrainable:
        return wait("no_recipe", "the model names no recipe")
    if e.broken:
        return wait("broken", f"the data are broken ({', '.join(e.broken)})")
    if e.active_retrain is not None:
        return wait("active_retrain", f"the retrain {e.active_retrain} is under way")
    if e.active_rollout is not None:
        return wait("active_rollout", f"the rollout {e.active_rollout} is under way")
    if trigger == "alert" and e.rise < policy.margin / 2:
        return wait("recovered", "it is no longer above the margin")
    if e.last_retrain_at is not None:
        passed = (now - e.last_retrain_at).total_seconds()
        if passed < policy.cooldown_s:
            return wait("cooldown", f"the last retrain ended less than {policy.cooldown_s:g} s ago")
    if trigger == "schedule" and labels == 0:
        return wait("nothing_new", "nothing is new: no row was labelled since the last retrain")
    if trigger != "corrections" and labels < policy.min_fresh_labels:
        return wait("labels", f"only {labels} of {policy.min_fresh_labels} fresh labels are there")
    return TriggerDecision(trigger, "retrain", "retrain", because)


def due(schedule: str, timezone: str, checked: datetime, now: datetime) -> datetime | None:
    """Return the latest run of a cron expression in (checked, now], in UTC, or None. Several missed
    runs count as one.

    Times are wall-clock times in `timezone`; one that is skipped in spring runs an hour later, one
    that occurs twice in autumn runs the first time. Raises Rejected for an invalid expression or
    zone.
    """
    from croniter import croniter
    from croniter.croniter import CroniterError

    try:
        zone = ZoneInfo(timezone)
        local_now = now.astimezone(zone).replace(tzinfo=None)
        runs = croniter(schedule, local_now.replace(microsecond=0) + timedelta(seconds=1))
        while True:
            run: datetime = runs.get_prev(datetime).replace(tzinfo=zone, fold=0).astimezone(UTC)
            if run <= now:
                return run if run > checked else None
    except (CroniterError, KeyError, ValueError) as error:
        raise Rejected(f"trigger.schedule {schedule!r} in {timezone!r}: {error}") from None
