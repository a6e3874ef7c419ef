"""What is wrong now: a pure function of what the store says.

A condition lasts as long as the store says so: nothing is remembered here, so a role that is
started again concludes the same. Each has two sentences: what happened, and what driftloop does
next by itself and when.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from driftloop_alerts.snapshot import ModelSeen, RolloutSeen, Snapshot
from driftloop_contracts.alert import Alert, AlertState
from driftloop_contracts.capture import SAMPLED
from driftloop_contracts.durations import in_words
from driftloop_contracts.incident import Cause, Urgency
from driftloop_contracts.judgement import CheckKind
from driftloop_contracts.retrain import RetrainState

URGENCY: Mapping[Cause, Urgency] = {
    Cause.PERFORMANCE: Urgency.PAGE,
    Cause.ESTIMATE: Urgency.PAGE,
    Cause.JUDGE: Urgency.PAGE,
    Cause.QUALITY: Urgency.PAGE,
    Cause.CAPTURE_LOSS: Urgency.PAGE,
    Cause.ROLLBACK: Urgency.PAGE,
    Cause.RETRAIN_FAILING: Urgency.PAGE,
    Cause.ROLE: Urgency.PAGE,
    Cause.ROUTE: Urgency.PAGE,
    Cause.LATE_LABELS: Urgency.TICKET,
    Cause.APPROVAL: Urgency.TICKET,
    Cause.SCHEDULE_MISSED: Urgency.TICKET,
    Cause.INCONCLUSIVE: Urgency.TICKET,
    Cause.DRIFT: Urgency.DIGEST,
    Cause.NIGHT: Urgency.DIGEST,
    Cause.TEST: Urgency.PAGE,
}
FAILED_RETRAINS = 2
"""In a row: one that fails once is tried again."""
INCONCLUSIVE_WINDOWS = 3
"""In a row."""
ROLLBACK_FOR = timedelta(days=1)
"""A rollback is over when it is this old, or a later rollout is there."""
PAUSED_FOR = timedelta(hours=1)
"""A rollout that waits this long waits for somebody."""
LATE = 0.95
"""Of the time that labels may take."""
TRIES = "It tries again by itself every few seconds."
HANGS = "It is not ended by itself: kill its process, and it is started again."
MOST_LINES = 200
"""Decisions of a day in the evidence."""
LONGEST = 600
"""Characters of one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """key: names the last evidence; acknowledged: somebody acknowledged the alert behind it."""

    model: str
    cause: Cause
    happened: str
    next: str
    key: str
    subject: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    acknowledged: bool = False

    @property
    def urgency(self) -> Urgency:
        return URGENCY[self.cause]


def conditions(seen: Snapshot) -> list[Condition]:
    """All that is wrong, unordered."""
    found = [*_roles(seen), *_routes(seen), *_night(seen)]
    found += [_of_alert(alert, seen) for alert in seen.alerts if alert.kind in _OF_ALERTS]
    for model in seen.models.values():
        found += _of_model(model, seen.now)
    return list({(c.model, c.cause, c.subject): c for c in found}.values())


_OF_ALERTS = {
    CheckKind.PERFORMANCE: Cause.PERFORMANCE,
    CheckKind.ESTIMATE: Cause.ESTIMATE,
    CheckKind.JUDGE: Cause.JUDGE,
    CheckKind.QUALITY: Cause.QUALITY,
    CheckKind.UNJUDGED: Cause.INCONCLUSIVE,
}


def _of_alert(alert: Alert, seen: Snapshot) -> Condition:
    model = seen.models.get(alert.model)
    cause = _OF_ALERTS[alert.kind]
    following = {
        Cause.QUALITY: "No retrain starts from broken data; this ends when a window passes its "
        "checks again",
        Cause.ESTIMATE: "Only labels prove it: driftloop retrains once they do, and this ends when "
        "they do not or when a window is expected to be as good as before; send labels",
        Cause.INCONCLUSIVE: "These rows were given up, and later ones are judged; this ends "
        "with the first that is",
    }
    return Condition(
        model=alert.model,
        cause=cause,
        happened=sentence(alert.message),
        next=sentence(following.get(cause) or _about_retraining(model)),
        key=f"{alert.id}/{len(alert.findings)}",
        evidence={
            "alert": alert.id,
            "window": alert.window,
            "version": alert.version,
            "since": alert.change_at.isoformat(),
        },
        acknowledged=alert.state is AlertState.ACKNOWLEDGED,
    )


def _about_retraining(model: ModelSeen | None) -> str:
    """What follows from an error that rose."""
    newest = model.retrains[0] if model and model.retrains else None
    if newest is not None and newest.active:
        return (
            f"A retrain is in progress since {clock_time(newest.at)}; what passes its gate starts "
            "as a canary by itself"
        )
    decision = model.decision if model else None
    if decision is not None and decision.verdict == "wait":
        return f"No retrain starts yet: {decision.reason}"
    return "driftloop decides about a retrain in its next monitoring cycle, within seconds"


def _roles(seen: Snapshot) -> Iterator[Condition]:
    for failing in seen.degraded:
        then = HANGS if failing.role.endswith("/cycle") else TRIES
        what = f"{failing.role} of {failing.subject}" if failing.subject else failing.role
        yield Condition(
            model=failing.subject,
            cause=Cause.ROLE,
            subject=failing.role,
            happened=sentence(
                f"{what} keeps failing since {clock_time(failing.since)}: {failing.reason}"
            ),
            next=f"{then} Predictions are answered and wait on disk meanwhile.",
            key=failing.since.isoformat(),
            evidence=failing.to_dict(),
        )


def _routes(seen: Snapshot) -> Iterator[Condition]:
    for route in seen.routes:
        yield Condition(
            model="",
            cause=Cause.ROUTE,
            subject=route.name,
            happened=sentence(
                f"Messages on the route {route.name} do not arrive since "
                f"{clock_time(route.since)}: {route.reason}"
            ),
            next="They are kept and tried again, at the latest every 10 minutes.",
            key=route.since.isoformat(),
            evidence={"route": route.name, "reason": route.reason},
        )


def _night(seen: Snapshot) -> Iterator[Condition]:
    night = seen.night
    if night is None or not night.lines:
        return
    yield Condition(
        model="",
        cause=Cause.NIGHT,
        subject=night.until.isoformat(),
        happened=sentence(f"Decided since {clock_time(night.since)}: {'; '.join(night.lines)}"),
        next="Nothing has to be done; the console has the evidence of each decision.",
        key=str(len(night.lines)),
        evidence={"decisions": list(night.lines[:MOST_LINES]), "count": len(night.lines)},
    )


def _of_model(model: ModelSeen, now: datetime) -> Iterator[Condition]:
    yield from _capture(model)
    yield from _inconclusive(model)
    yield from _drift(model)
    yield from _rollout(model, now)
    yield from _retrains(model)
    yield from _waiting(model)


def _capture(model: ModelSeen) -> Iterator[Condition]:
    newest = model.windows[0] if model.windows else None
    lost = {r: n for r, n in newest.dropped.items() if r != SAMPLED} if newest else {}
    if newest is None or not (newest.unexplained or lost):
        return
    reasons = [f"{rows:,} rows ({reason})" for reason, rows in sorted(lost.items())]
    if newest.unexplained:
        reasons.append(f"{newest.unexplained:,} rows for no known reason")
    yield Condition(
        model=model.name,
        cause=Cause.CAPTURE_LOSS,
        happened=sentence(f"{model.name}: answered predictions were lost: {', '.join(reasons)}"),
        next="Windows with missing rows start neither a retrain nor a promotion; this ends when a "
        "window is whole again.",
        key=newest.window_id,
        evidence={"window": newest.window_id, "dropped": lost, "unexplained": newest.unexplained},
    )


def _inconclusive(model: ModelSeen) -> Iterator[Condition]:
    windows = model.windows[:INCONCLUSIVE_WINDOWS]
    if len(windows) < INCONCLUSIVE_WINDOWS or any(w.status != "inconclusive" for w in windows):
        return
    yield Condition(
        model=model.name,
        cause=Cause.INCONCLUSIVE,
        happened=sentence(
            f"{model.name}: the last {len(windows)} windows could not be judged: "
            f"{windows[0].reason or 'no reason is known'}"
        ),
        next="Nothing starts from such windows; the next one is judged when it closes.",
        key=windows[0].window_id,
        evidence={"window": windows[0].window_id, "reason": windows[0].reason},
    )


def _drift(model: ModelSeen) -> Iterator[Condition]:
    if not model.drifted:
        return
    worst = sorted(model.drifted, key=lambda finding: finding.effect, reverse=True)
    columns = list(dict.fromkeys(c for finding in worst for c in finding.columns))
    named = ", ".join(columns[:3]) + (f" and {len(columns) - 3} more" if len(columns) > 3 else "")
    count = f"{len(columns)} columns" if len(columns) != 1 else "one column"
    yield Condition(
        model=model.name,
        cause=Cause.DRIFT,
        happened=sentence(f"{model.name}: {count} drifted from the reference: {named}"),
        next="Drift alone starts nothing; a retrain follows by itself if the measured error rises.",
        key=worst[0].window_id,
        evidence={
            "window": worst[0].window_id,
            "columns": columns[:50],
            "effect": worst[0].effect,
            "check": worst[0].check,
        },
    )


def _rollout(model: ModelSeen, now: datetime) -> Iterator[Condition]:
    rollout = model.rollout
    if rollout is None:
        return
    if rollout.state == "rolled_back" and now - rollout.changed_at < ROLLBACK_FOR:
        yield Condition(
            model=model.name,
            cause=Cause.ROLLBACK,
            happened=sentence(
                f"{model.name}: version {rollout.version} was rolled back: {rollout.reason}"
            ),
            next="The last good version has all traffic again; the next candidate that passes its "
            "gate starts as a canary by itself.",
            key=rollout.id,
            evidence={"rollout": rollout.id, "version": rollout.version},
        )
    elif rollout.state == "paused" and now - rollout.changed_at >= PAUSED_FOR:
        yield _approval(model.name, rollout)
    elif rollout.awaits:
        yield _wanted(model.name, rollout)


def _approval(model: str, rollout: RolloutSeen) -> Condition:
    end = f" at {clock_time(rollout.deadline_at)}" if rollout.deadline_at else ""
    return Condition(
        model=model,
        cause=Cause.APPROVAL,
        subject=rollout.id,
        happened=sentence(
            f"{model}: the rollout of version {rollout.version} waits for a person since "
            f"{clock_time(rollout.changed_at)}"
        ),
        next=f"It is rolled back when harm is shown, or at its deadline{end}; promote, resume or "
        "abort it.",
        key=rollout.id,
        evidence={"rollout": rollout.id, "version": rollout.version},
    )


def _wanted(model: str, rollout: RolloutSeen) -> Condition:
    end = f" at {clock_time(rollout.deadline_at)}" if rollout.deadline_at else ""
    return Condition(
        model=model,
        cause=Cause.APPROVAL,
        subject=rollout.id,
        happened=sentence(f"{model}: the rollout of version {rollout.version}: {rollout.reason}"),
        next=f"It waits until `driftloop rollout approve {model}`, and is rolled back when harm is "
        f"shown, or at its deadline{end}.",
        key=f"{rollout.id}/{rollout.awaits}/{rollout.moves}",
        evidence={
            "rollout": rollout.id,
            "version": rollout.version,
            "awaits": rollout.awaits,
            "moves": rollout.moves,
        },
    )


def _retrains(model: ModelSeen) -> Iterator[Condition]:
    ended = [retrain for retrain in model.retrains if not retrain.active]
    failed = []
    for retrain in ended:
        if retrain.state is not RetrainState.FAILED:
            break
        failed.append(retrain)
    if len(failed) < FAILED_RETRAINS:
        return
    last = (failed[0].error or "").strip().rpartition("\n")[2] or "see its record"
    yield Condition(
        model=model.name,
        cause=Cause.RETRAIN_FAILING,
        happened=sentence(f"{model.name}: the last {len(failed)} retrains failed: {last}"),
        next="The champion keeps serving; the next alert or schedule starts another retrain.",
        key=failed[0].id,
        evidence={"retrain": failed[0].id, "error": last[:LONGEST]},
    )


def _waiting(model: ModelSeen) -> Iterator[Condition]:
    waits_s = model.labels_wait_s
    if waits_s is not None and waits_s >= LATE * model.label_timeout_s:
        yield Condition(
            model=model.name,
            cause=Cause.LATE_LABELS,
            happened=sentence(
                f"{model.name}: predictions wait for their labels for {in_words(waits_s)}, as long "
                "as they may"
            ),
            next=f"After {in_words(model.label_timeout_s)} rows are judged by the labels they "
            "have, so that a worse model is noticed late or not at all.",
            key="waits",
            evidence={"waits_s": round(waits_s), "label_timeout_s": model.label_timeout_s},
        )
    if model.missed_at is not None:
        yield Condition(
            model=model.name,
            cause=Cause.SCHEDULE_MISSED,
            happened=sentence(
                f"{model.name}: the retrain scheduled for {clock_time(model.missed_at)} was not "
                "decided on"
            ),
            next="It is decided on when the monitor judges this model again, or at the next date.",
            key=model.missed_at.isoformat(),
            evidence={"missed_at": model.missed_at.isoformat()},
        )


def sentence(text: str) -> str:
    """One line of bounded length, without control characters, with a full stop at its end."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    line = " ".join(printable.split())
    line = line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
    return line if line.endswith((".", "…", "!", "?")) else f"{line}."


def clock_time(at: datetime) -> str:
    """For people, to the minute."""
    return at.strftime("%Y-%m-%d %H:%M %Z").strip()
