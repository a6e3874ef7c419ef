"""How a model is: one word, why, and what happens next. Pure; the first match of ORDER wins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from driftloop_console import words
from driftloop_contracts.alert import Alert
from driftloop_contracts.durations import in_short
from driftloop_contracts.health import Degraded
from driftloop_contracts.judgement import CheckKind, unexplained
from driftloop_contracts.model import Deployment
from driftloop_contracts.retrain import Retrain
from driftloop_settings import Settings

Record = Mapping[str, Any]
FINISHED = ("promoted", "rolled_back", "aborted")


class Word(StrEnum):
    """In the order of need for attention."""

    ALERT = "alert"
    CANARY = "canary"
    RETRAINING = "retraining"
    WATCHING = "watching"
    UNWATCHED = "unwatched"
    HEALTHY = "healthy"


ORDER = tuple(Word)
REPAIRED = (CheckKind.PERFORMANCE, CheckKind.ESTIMATE, CheckKind.JUDGE)
"""Alerts that a retrain and a rollout answer to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecords:
    """What the store holds of one model. window, decision, retrain, rollout: the newest; alerts:
    the open ones; monitor: what the monitor keeps between its steps."""

    deployment: Deployment
    window: Record | None = None
    decision: Record | None = None
    retrain: Retrain | None = None
    rollout: Record | None = None
    alerts: Sequence[Alert] = ()
    ledger: Sequence[Record] = ()
    monitor: Record = field(default_factory=dict)
    degraded: Sequence[Degraded] = ()

    @property
    def active_rollout(self) -> Record | None:
        return self.rollout if self.rollout and self.rollout["state"] not in FINISHED else None

    @property
    def active_retrain(self) -> Retrain | None:
        return self.retrain if self.retrain and self.retrain.active else None

    @property
    def served(self) -> int:
        return sum(int(entry["served"]) for entry in self.ledger)

    @property
    def gaps(self) -> int:
        """Rows that were served and are not captured, whether or not the reason is known."""
        lost = sum(sum(entry["dropped"].values()) for entry in self.ledger)
        return lost + sum(unexplained(entry) for entry in self.ledger)

    @property
    def label_lag_s(self) -> float | None:
        """How far the rows that were judged by their labels are behind those in windows."""
        windowed, tested = self.monitor.get("windowed"), self.monitor.get("tested")
        if not windowed or not tested:
            return None
        ends = [datetime.fromisoformat(position["at"]) for position in (windowed, tested)]
        return max(0.0, (ends[0] - ends[1]).total_seconds())

    @property
    def error(self) -> float | None:
        return self._performance("mean_loss")

    @property
    def reference(self) -> float | None:
        return self._performance("baseline")

    @property
    def may_be_rhythm(self) -> float:
        """A rise that is not called one, because no whole week was seen yet."""
        return self._performance("may_be_rhythm") or 0.0

    @property
    def estimated(self) -> float | None:
        """Of the newest window, from the confidence of its answers."""
        return self.window.get("estimated_loss") if self.window else None

    def _performance(self, name: str) -> float | None:
        shown = self.window.get("performance", {}) if self.window else {}
        value = shown.get(name)
        return None if value is None else float(value)


@dataclass(frozen=True, slots=True)
class Condition:
    """why, then: sentences; `then` says what happens next, and when."""

    word: Word
    why: str
    then: str

    @property
    def rank(self) -> int:
        return ORDER.index(self.word)

    @property
    def sentence(self) -> str:
        return f"{self.why} {self.then}"


def condition(records: ModelRecords, settings: Settings) -> Condition:
    """settings: with the model's policy."""
    unhandled = [alert for alert in records.alerts if not _handled(alert, records)]
    if unhandled:
        return _alert(unhandled[0], len(records.alerts), records, settings)
    if records.active_rollout is not None:
        return _canary(records.active_rollout)
    if records.active_retrain is not None:
        return _retraining(records.active_retrain, settings)
    if records.degraded:
        found = records.degraded[0]
        why = f"{_upper(found.role)} fails for this model: {words.clip(found.reason, 200)}."
        return Condition(Word.UNWATCHED, why, "It tries again by itself; see System.")
    window = records.window
    if window is None:
        return _first_window(records, settings)
    if window.get("status") == "inconclusive":
        why = f"The newest window could not be judged: {window.get('reason', '')}."
        return Condition(Word.WATCHING, why, _next_window(window, settings))
    moved = [*records.monitor.get("broken", ()), *records.monitor.get("drifted", ())]
    if moved:
        names = ", ".join(moved[:5]) + (f" and {len(moved) - 5} more" if len(moved) > 5 else "")
        then = "Drift alone does not retrain: a rise of the error does. "
        why = f"Columns moved away from the reference: {names}."
        return Condition(Word.WATCHING, why, then + _next_window(window, settings))
    return _healthy(records, window, settings)


def _handled(alert: Alert, records: ModelRecords) -> bool:
    """Whether a retrain or a rollout that answers to it is under way."""
    acted = records.active_rollout is not None or records.active_retrain is not None
    return alert.kind in REPAIRED and acted


def _alert(alert: Alert, alerts: int, records: ModelRecords, settings: Settings) -> Condition:
    more = f" ({alerts - 1} more)" if alerts > 1 else ""
    said = words.clip(alert.message, 300).rstrip(".")
    # A name is not written in another way because a sentence begins with it.
    why = f"{said if said.startswith(alert.model) else _upper(said)}{more}."
    decision = records.decision
    if alert.kind is CheckKind.QUALITY:
        then = (
            "driftloop does not retrain on broken data. Fix the upstream data; the alert closes "
            "with the first clean window."
        )
    elif alert.kind is CheckKind.ESTIMATE:
        then = "Only labels prove it: send them, and driftloop retrains once they do."
    elif alert.kind is CheckKind.ROLE:
        then = "It is tried again all the time; the alert closes when it succeeds. See System."
    elif records.deployment.model.recipe is None:
        then = "The model names no recipe, so driftloop does not retrain it: deploy a better one."
    elif decision is not None and decision["verdict"] == "wait":
        then = f"driftloop waits: {decision['reason']}. {_until(decision, settings)}".rstrip()
    else:
        then = "driftloop decides in its next monitoring cycle whether to retrain."
    return Condition(Word.ALERT, why, then)


def _until(decision: Record, settings: Settings) -> str:
    """When the policy looks at it again, if a time is known."""
    ended = decision.get("evidence", {}).get("last_retrain_at")
    if ended and "last retrain ended" in decision["reason"]:
        at = datetime.fromisoformat(ended) + timedelta(seconds=settings.trigger.cooldown_s)
        return f"It may retrain from {words.time(at)} on."
    return "It decides again in each monitoring cycle."


def _canary(rollout: Record) -> Condition:
    version, state = rollout["candidate"]["version"], rollout["state"]
    deadline = rollout.get("deadline_at")
    by = f" by {words.time(deadline)}" if deadline else ""
    if state in ("pending", "loading"):
        why = f"Version {version} is loaded for a canary."
        return Condition(Word.CANARY, why, "It gets no traffic until all replicas hold it.")
    if state == "shadow":
        why = f"Version {version} answers in the shadow: nobody gets its answers."
        return Condition(Word.CANARY, why, "A worse one ends there; otherwise the canary begins.")
    if state in ("running", "paused"):
        steps = rollout.get("steps", ())
        step = f"step {rollout.get('step', 0) + 1} of {max(len(steps) - 1, 1)}"
        why = f"Version {version} gets {words.share(rollout.get('weight'))} of the traffic, {step}."
        if rollout.get("awaits"):
            then = f"It waits for a person: {rollout.get('reason', '')}."
        elif state == "paused":
            then = "An operator paused it: only harm is acted upon until it is resumed."
        else:
            outlook = rollout.get("outlook") or {}
            seconds, late = outlook.get("seconds_to_verdict"), outlook.get("late")
            about = f"; the verdict takes about {in_short(seconds)} more" if seconds else ""
            about = f"; {late}" if late else about
            then = (
                f"It advances when the evidence passes the gate{about}. Without a verdict{by} it "
                "is rolled back."
            )
        return Condition(Word.CANARY, why, then)
    if state == "watched":
        keeps = "answers in the shadow" if rollout.get("watch") else "keeps a part of the traffic"
        why = f"Version {version} is promoted; the former champion {keeps}."
        then = "That ends when the labels of the promotion have come; harm is rolled back."
        return Condition(Word.CANARY, why, then)
    way = "promoted" if state == "promoting" else "taken back"
    return Condition(Word.CANARY, f"Version {version} is being {way}.", "Replicas are switching.")


def _retraining(retrain: Retrain, settings: Settings) -> Condition:
    progress = retrain.progress
    how_far = f": {progress.message}, {words.share(progress.fraction)}" if progress else ""
    waiting = f" It waits: {retrain.waiting_for}." if retrain.waiting_for else ""
    why = f"A retrain is {retrain.state}{how_far} ({words.clip(retrain.reason, 200)}).{waiting}"
    after = "a canary starts" if settings.rollout.auto_start else "an operator may roll it out"
    limit = ""
    if retrain.started_at is not None:
        at = retrain.started_at + timedelta(seconds=settings.retrain.deadline_s)
        limit = f" It fails if it has not ended by {words.time(at)}."
    return Condition(Word.RETRAINING, why, f"If the candidate passes the gate, {after}.{limit}")


def _first_window(records: ModelRecords, settings: Settings) -> Condition:
    rules = settings.monitoring
    why = f"No window was judged yet; {words.count(records.served)} rows were served."
    then = (
        f"The first window closes after {words.count(rules.window_rows)} rows or "
        f"{in_short(rules.window_seconds)}: send requests."
    )
    return Condition(Word.UNWATCHED, why, then)


def _healthy(records: ModelRecords, window: Record, settings: Settings) -> Condition:
    error, reference = records.error, records.reference
    if error is not None and reference is not None:
        why = f"The error is {words.number(error)}, in the reference it was "
        why += f"{words.number(reference)}; no column moved."
    elif records.estimated is not None:
        why = f"The error is expected to be {words.number(records.estimated)}, until labels "
        why += "arrive; no column moved."
    else:
        why = "No column moved; the error is not known until labels arrive."
    margin = words.number(settings.monitoring.performance_margin)
    schedule = settings.trigger.schedule
    regular = f", and by the schedule `{schedule}`" if schedule else ""
    then = f"A rise of the error by {margin} would retrain it{regular}."
    if unseen := records.may_be_rhythm:
        then += (
            f" Until a whole week was seen, a rhythm looks like a rise: it must be "
            f"larger by {words.number(round(unseen, 4))}."
        )
    return Condition(Word.HEALTHY, why, f"{then} {_next_window(window, settings)}")


def _next_window(window: Record, settings: Settings) -> str:
    rules = settings.monitoring
    last = datetime.fromisoformat(window["ended_at"])
    by = words.time(last + timedelta(seconds=rules.window_seconds))
    return f"The next window closes after {words.count(rules.window_rows)} rows, or by {by}."


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
