"""The state of a rollout: everything that affects it lives here, and only this table changes it.

`apply` is pure. A pair of state and event that the table does not list raises Conflict and leaves
the rollout as it was. The picture in docs/reference/states.md is drawn from the table.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from driftloop_contracts.errors import Conflict
from driftloop_contracts.model import ServedVersion
from driftloop_contracts.transitions import finished, follow
from driftloop_rollout.curve import CurvePoint
from driftloop_rollout.evidence import RolloutEvidence
from driftloop_rollout.outlook import Outlook
from driftloop_rollout.shadow_stage import ShadowStage


class State(StrEnum):
    PENDING = "pending"  # requested; nothing has changed yet
    SHADOW = "shadow"  # the candidate answers the champion's rows, unseen and without traffic
    LOADING = "loading"  # replicas load the candidate; it gets no traffic
    RUNNING = "running"  # the canary gets the current step's share of the traffic
    PAUSED = "paused"  # like running, but only harm has consequences
    WATCHED = "watched"  # the candidate is the stable version; the former one is kept to compare
    PROMOTING = "promoting"  # the candidate becomes the stable version
    ROLLING_BACK = "rolling_back"  # the last good version gets all traffic again
    ABORTING = "aborting"  # the same, after an operator or another version intervened
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"


class Event(StrEnum):
    ADOPT = "adopt"  # the controller starts to work on the request
    PASS = "pass"  # pairs prove that the candidate is not worse
    SKIP = "skip"  # the shadow is not possible, or came to no verdict in time
    LOADED = "loaded"  # replicas hold the candidate
    ADVANCE = "advance"  # the gate of this rung is passed
    APPROVE = "approve"  # an operator lets the canary begin, or a proven promotion
    WATCH = "watch"  # the promotion is proven; the former champion is kept as a holdback
    PROVE = "prove"  # the promotion is proven, by mature labels if there was a holdback
    HARM = "harm"  # the canary is shown to be worse, or cannot be loaded
    EXPIRE = "expire"  # the deadline passed without a verdict
    SUPERSEDE = "supersede"  # somebody else changed the stable version
    SETTLE = "settle"  # replicas serve what the state requires
    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"  # an operator promotes without waiting for proof
    ABORT = "abort"


OPERATOR_EVENTS = (Event.APPROVE, Event.PAUSE, Event.RESUME, Event.PROMOTE, Event.ABORT)

S, E = State, Event
TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (S.PENDING, E.ADOPT): S.SHADOW,
    (S.PENDING, E.EXPIRE): S.ROLLING_BACK,
    (S.PENDING, E.SUPERSEDE): S.ABORTING,
    (S.PENDING, E.ABORT): S.ABORTING,
    (S.SHADOW, E.PASS): S.LOADING,
    (S.SHADOW, E.SKIP): S.LOADING,
    (S.SHADOW, E.HARM): S.ROLLING_BACK,
    (S.SHADOW, E.EXPIRE): S.ROLLING_BACK,
    (S.SHADOW, E.SUPERSEDE): S.ABORTING,
    (S.SHADOW, E.ABORT): S.ABORTING,
    (S.LOADING, E.APPROVE): S.LOADING,
    (S.LOADING, E.LOADED): S.RUNNING,
    (S.LOADING, E.HARM): S.ROLLING_BACK,
    (S.LOADING, E.EXPIRE): S.ROLLING_BACK,
    (S.LOADING, E.SUPERSEDE): S.ABORTING,
    (S.LOADING, E.ABORT): S.ABORTING,
    (S.RUNNING, E.APPROVE): S.RUNNING,
    (S.RUNNING, E.ADVANCE): S.RUNNING,
    (S.RUNNING, E.WATCH): S.WATCHED,
    (S.RUNNING, E.PROVE): S.PROMOTING,
    (S.RUNNING, E.HARM): S.ROLLING_BACK,
    (S.RUNNING, E.EXPIRE): S.ROLLING_BACK,
    (S.RUNNING, E.SUPERSEDE): S.ABORTING,
    (S.RUNNING, E.PAUSE): S.PAUSED,
    (S.RUNNING, E.PROMOTE): S.PROMOTING,
    (S.RUNNING, E.ABORT): S.ABORTING,
    (S.PAUSED, E.HARM): S.ROLLING_BACK,
    (S.PAUSED, E.EXPIRE): S.ROLLING_BACK,
    (S.PAUSED, E.SUPERSEDE): S.ABORTING,
    (S.PAUSED, E.RESUME): S.RUNNING,
    (S.PAUSED, E.PROMOTE): S.PROMOTING,
    (S.PAUSED, E.ABORT): S.ABORTING,
    (S.WATCHED, E.PROVE): S.PROMOTING,
    (S.WATCHED, E.HARM): S.ROLLING_BACK,
    (S.WATCHED, E.SUPERSEDE): S.ABORTING,
    (S.WATCHED, E.PROMOTE): S.PROMOTING,
    (S.WATCHED, E.ABORT): S.ABORTING,
    (S.PROMOTING, E.SETTLE): S.PROMOTED,
    (S.PROMOTING, E.HARM): S.ROLLING_BACK,
    (S.PROMOTING, E.SUPERSEDE): S.ABORTING,
    (S.PROMOTING, E.ABORT): S.ABORTING,
    (S.ROLLING_BACK, E.SETTLE): S.ROLLED_BACK,
    (S.ABORTING, E.SETTLE): S.ABORTED,
}
FINISHED = finished(TRANSITIONS)


@dataclass(frozen=True, slots=True)
class Transition:
    """One entry of a rollout's history: what happened, why, who caused it, and the numbers seen."""

    at: datetime
    event: Event
    state: State
    weight: float
    reason: str
    actor: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "at": self.at.isoformat()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Transition":
        return cls(
            **{
                **value,
                "at": datetime.fromisoformat(value["at"]),
                "event": Event(value["event"]),
                "state": State(value["state"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout as it is stored; `revision` is the store's.

    steps: the canary's weights, ascending, the last one 1 (the promotion). champion: the stable
    version when the rollout was adopted, to which a rollback returns. sticky_s: the seconds for
    which a routing key stays on its arm, None: forever. verdict: see `verdict.Word`.
    shadow: what the candidate answered unseen; None: nothing. watch: what the former champion
    answers unseen after the promotion; None: it has a share of the traffic.
    holdback: the former champion's share after the promotion. awaits: what waits for a person,
    "canary" or "promote"; approved: what a person let happen. halted_at: since when the candidate
    gets no more traffic, because it had all that it may have before a verdict.
    registry_due: the registry's aliases have yet to be set. outlook: the expected time to a
    verdict. curve: points of the evidence over time, for charts.
    """

    id: str
    model: str
    state: State
    revision: int
    requested_at: datetime
    candidate: ServedVersion
    reason: str
    steps: tuple[float, ...] = ()
    step: int = 0
    champion: ServedVersion | None = None
    sticky_s: float | None = None
    holdback: float = 0.0
    awaits: str = ""
    approved: tuple[str, ...] = ()
    halted_at: datetime | None = None
    verdict: str = "undecided"
    stepped_at: datetime | None = None
    deadline_at: datetime | None = None
    finished_at: datetime | None = None
    shadow: ShadowStage | None = None
    watch: ShadowStage | None = None
    evidence: RolloutEvidence | None = None
    outlook: Outlook | None = None
    registry_due: bool = False
    curve: tuple[CurvePoint, ...] = ()
    history: tuple[Transition, ...] = ()

    @property
    def rungs(self) -> tuple[float, ...]:
        """The steps at which the canary is judged."""
        return self.steps[:-1]

    @property
    def weight(self) -> float:
        """The candidate's share of the traffic in this state."""
        if self.state in (State.RUNNING, State.PAUSED):
            return 0.0 if self.halted_at else self.steps[self.step]
        if self.state is State.WATCHED:
            return 1.0 - self.holdback
        return 1.0 if self.state in (State.PROMOTING, State.PROMOTED) else 0.0

    @property
    def promotion_began(self) -> bool:
        """Whether this rollout made the candidate the stable version."""
        promoted = (State.WATCHED, State.PROMOTING)
        return any(entry.state in promoted for entry in self.history)

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    def to_body(self) -> dict[str, Any]:
        """Return JSON for the store; id, model, at, state and revision are columns of their own."""
        return {
            "candidate": self.candidate.to_dict(),
            "reason": self.reason,
            "steps": list(self.steps),
            "step": self.step,
            "weight": self.weight,
            "champion": self.champion.to_dict() if self.champion else None,
            "sticky_s": self.sticky_s,
            "holdback": self.holdback,
            "awaits": self.awaits,
            "approved": list(self.approved),
            "halted_at": _text(self.halted_at),
            "verdict": self.verdict,
            "stepped_at": _text(self.stepped_at),
            "deadline_at": _text(self.deadline_at),
            "finished_at": _text(self.finished_at),
            "shadow": self.shadow.to_dict() if self.shadow else None,
            "watch": self.watch.to_dict() if self.watch else None,
            "evidence": self.evidence.to_dict() if self.evidence else None,
            "outlook": self.outlook.to_dict() if self.outlook else None,
            "registry_due": self.registry_due,
            "curve": [point.to_dict() for point in self.curve],
            "history": [transition.to_dict() for transition in self.history],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Rollout":
        """Read the store's record; one just requested has only `candidate` and `reason`."""
        champion, evidence = record.get("champion"), record.get("evidence")
        shadow = record.get("shadow")
        return cls(
            id=record["id"],
            model=record["model"],
            state=State(record["state"]),
            revision=record["revision"],
            requested_at=datetime.fromisoformat(record["at"]),
            candidate=ServedVersion.from_dict(record["candidate"]),
            reason=record["reason"],
            steps=tuple(record.get("steps", ())),
            step=record.get("step", 0),
            champion=ServedVersion.from_dict(champion) if champion else None,
            sticky_s=record.get("sticky_s"),
            holdback=record.get("holdback", 0.0),
            awaits=record.get("awaits", ""),
            approved=tuple(record.get("approved", ())),
            halted_at=_time(record.get("halted_at")),
            verdict=record.get("verdict", "undecided"),
            stepped_at=_time(record.get("stepped_at")),
            deadline_at=_time(record.get("deadline_at")),
            finished_at=_time(record.get("finished_at")),
            shadow=ShadowStage.from_dict(shadow) if shadow else None,
            watch=ShadowStage.from_dict(watch) if (watch := record.get("watch")) else None,
            evidence=RolloutEvidence.from_dict(evidence) if evidence else None,
            outlook=Outlook.from_dict(told) if (told := record.get("outlook")) else None,
            registry_due=record.get("registry_due", False),
            curve=tuple(CurvePoint.from_dict(point) for point in record.get("curve", ())),
            history=tuple(Transition.from_dict(t) for t in record.get("history", ())),
        )


def apply(
    rollout: Rollout,
    event: Event,
    now: datetime,
    reason: str,
    *,
    actor: str = "controller",
    numbers: Mapping[str, Any] | None = None,
) -> Rollout:
    """Return the rollout after the event. Raises Conflict if the table has no such transition."""
    what = f"rollout {rollout.id}"
    state = follow(TRANSITIONS, rollout.state, event, what)
    if event is Event.ADVANCE and rollout.step >= len(rollout.rungs) - 1:
        raise Conflict(f"{what} is at its last step: `{event}` is not possible")
    moved = event in (Event.LOADED, Event.ADVANCE, Event.WATCH)
    approved = (rollout.awaits,) if event is Event.APPROVE and rollout.awaits else ()
    after = replace(
        rollout,
        state=state,
        reason=reason,
        step=rollout.step + (event is Event.ADVANCE),
        stepped_at=now if moved else rollout.stepped_at,
        awaits="",
        approved=(*rollout.approved, *approved),
        finished_at=now if state in FINISHED else None,
        registry_due=state in FINISHED,
    )
    entry = Transition(now, event, state, after.weight, reason, actor, dict(numbers or {}))
    return replace(after, history=(*rollout.history, entry))


def _text(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
