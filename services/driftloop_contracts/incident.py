"""An incident: what people have to know, one at a time for each model, cause and subject."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from driftloop_contracts.transitions import follow


class Urgency(StrEnum):
    """By consequence, the most urgent first."""

    PAGE = "page"  # wake somebody: predictions are wrong, or nobody can know
    TICKET = "ticket"  # somebody has to do something, in working hours
    DIGEST = "digest"  # worth knowing, once a day

    def at_least(self, other: "Urgency") -> bool:
        order = list(Urgency)
        return order.index(self) <= order.index(other)


class Cause(StrEnum):
    PERFORMANCE = "performance"  # the measured error rose
    ESTIMATE = "estimate"  # without labels, the error is expected to have risen
    JUDGE = "judge"  # a language model's scores by a judge fell
    QUALITY = "quality"  # the data are broken
    CAPTURE_LOSS = "capture_loss"  # answered predictions are missing
    ROLLBACK = "rollback"  # a candidate was shown to be worse
    RETRAIN_FAILING = "retrain_failing"  # several in a row failed
    ROLE = "role"  # a role's cycles keep failing; the subject is the role
    ROUTE = "route"  # messages do not arrive; the subject is the route
    LATE_LABELS = "late_labels"
    APPROVAL = "approval"  # a rollout waits for a person; the subject is the rollout
    SCHEDULE_MISSED = "schedule_missed"
    INCONCLUSIVE = "inconclusive"  # windows cannot be judged
    DRIFT = "drift"  # inputs or outputs moved
    NIGHT = "night"  # what was decided in a day; the subject is its end
    TEST = "test"  # `driftloop alerts test`


class IncidentState(StrEnum):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"  # somebody looks at it: it is not repeated
    SILENCED = "silenced"  # nothing is sent about it until `silenced_until`
    RESOLVED = "resolved"


class IncidentEvent(StrEnum):
    UPDATE = "update"  # further evidence of the same cause
    ACKNOWLEDGE = "acknowledge"
    SILENCE = "silence"
    END_SILENCE = "end_silence"
    RESOLVE = "resolve"


S, E = IncidentState, IncidentEvent
TRANSITIONS: Mapping[tuple[IncidentState, IncidentEvent], IncidentState] = {
    (S.OPEN, E.UPDATE): S.OPEN,
    (S.OPEN, E.ACKNOWLEDGE): S.ACKNOWLEDGED,
    (S.OPEN, E.SILENCE): S.SILENCED,
    (S.OPEN, E.RESOLVE): S.RESOLVED,
    (S.ACKNOWLEDGED, E.UPDATE): S.ACKNOWLEDGED,
    (S.ACKNOWLEDGED, E.SILENCE): S.SILENCED,
    (S.ACKNOWLEDGED, E.RESOLVE): S.RESOLVED,
    (S.SILENCED, E.UPDATE): S.SILENCED,
    (S.SILENCED, E.ACKNOWLEDGE): S.ACKNOWLEDGED,
    (S.SILENCED, E.SILENCE): S.SILENCED,
    (S.SILENCED, E.END_SILENCE): S.OPEN,
    (S.SILENCED, E.RESOLVE): S.RESOLVED,
}
_TIMES = ("at", "updated_at", "silenced_until", "resolved_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """model: "" for what concerns the whole stack; subject: distinguishes incidents of one
    cause, such as the role or the route; at: when it was opened; updated_at: when its evidence,
    state or message changed last; count: how often there was new evidence.

    happened, next: one sentence each: what happened, and what driftloop does next by itself and
    when. evidence: the last; its `key` changes when there is more. hidden_by: the incident (id)
    whose effect it is: nothing is sent about it meanwhile. told: when each route was last notified.
    by: who acknowledged or silenced it last. `revision` is the store's.
    """

    id: str
    model: str
    cause: Cause
    urgency: Urgency
    happened: str
    next: str
    at: datetime
    updated_at: datetime
    subject: str = ""
    state: IncidentState = IncidentState.OPEN
    count: int = 1
    evidence: Mapping[str, Any] = field(default_factory=dict)
    silenced_until: datetime | None = None
    resolved_at: datetime | None = None
    hidden_by: str | None = None
    told: Mapping[str, datetime] = field(default_factory=dict)
    by: str = ""
    revision: int = 0

    @property
    def message(self) -> str:
        """Two sentences."""
        return f"{self.happened} {self.next}"

    @property
    def key(self) -> tuple[str, Cause, str]:
        """One incident of a key at a time is not resolved."""
        return self.model, self.cause, self.subject

    def after(self, event: IncidentEvent, now: datetime, **changes: Any) -> "Incident":
        """With the fields of `changes`. Raises Conflict if the table has no such transition."""
        state = follow(TRANSITIONS, self.state, event, f"incident {self.id}")
        return replace(self, **{"state": state, "updated_at": now, **changes})

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        value = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in _TIMES:
            value[name] = value[name] and value[name].isoformat()
        told = {route: at.isoformat() for route, at in self.told.items()}
        return {**value, "told": told, "evidence": dict(self.evidence), "message": self.message}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Incident":
        known = {each.name: value[each.name] for each in fields(cls) if each.name in value}
        return cls(
            **{
                **known,
                **{name: _time(value.get(name)) for name in _TIMES},
                "cause": Cause(value["cause"]),
                "urgency": Urgency(value["urgency"]),
                "state": IncidentState(value["state"]),
                "told": {r: datetime.fromisoformat(at) for r, at in value["told"].items()},
            }
        )


class NoticeKind(StrEnum):
    OPENED = "opened"
    REPEATED = "repeated"  # it is still open
    SILENCE_ENDED = "silence_ended"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A route has to be notified of an incident. It is written in the transaction that changes the
    incident, and waits there until a delivery takes it on."""

    id: str
    route: str
    incident: str
    kind: NoticeKind
    at: datetime


@dataclass(frozen=True, slots=True)
class IncidentChange:
    """incident: as it is to be, on top of its `revision` (0: it is new). event: how its history
    calls it (`opened` or an IncidentEvent), or "" for what the history does not keep."""

    incident: Incident
    event: str = ""
    actor: str = "driftloop"
    reason: str = ""
    notices: tuple[Notice, ...] = ()


class DeliveryState(StrEnum):
    PENDING = "pending"  # also while it is tried again
    SENT = "sent"
    ABANDONED = "abandoned"  # its route is not in the settings any more, or refused it for good


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message on one route, from when it is decided until the receiver has it. id: also the
    idempotency key; next_at: when it is tried next; error: why the last attempt failed; message:
    what is sent, the same in each attempt."""

    id: str
    route: str
    at: datetime
    next_at: datetime
    message: Mapping[str, Any]
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    error: str = ""
    sent_at: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        value = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in ("at", "next_at", "sent_at"):
            value[name] = value[name] and value[name].isoformat()
        return {**value, "message": dict(self.message)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Delivery":
        known = {each.name: value[each.name] for each in fields(cls) if each.name in value}
        times = {name: _time(value.get(name)) for name in ("at", "next_at", "sent_at")}
        return cls(**{**known, **times, "state": DeliveryState(value["state"])})


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
