"""A retrain, from its request to its end, with its result."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from driftloop_contracts.transitions import follow


class RetrainState(StrEnum):
    REQUESTED = "requested"
    RUNNING = "running"
    SUCCEEDED = "succeeded"  # a version was registered
    REJECTED = "rejected"  # the gate refused the candidate
    FAILED = "failed"
    CANCELLED = "cancelled"


class RetrainEvent(StrEnum):
    START = "start"  # a process starts it, or resumes it after the previous one died
    SUCCEED = "succeed"
    REJECT = "reject"
    FAIL = "fail"
    CANCEL = "cancel"  # an operator ends it


S, E = RetrainState, RetrainEvent
TRANSITIONS: Mapping[tuple[RetrainState, RetrainEvent], RetrainState] = {
    (S.REQUESTED, E.START): S.RUNNING,
    (S.REQUESTED, E.CANCEL): S.CANCELLED,
    (S.RUNNING, E.START): S.RUNNING,
    (S.RUNNING, E.SUCCEED): S.SUCCEEDED,
    (S.RUNNING, E.REJECT): S.REJECTED,
    (S.RUNNING, E.FAIL): S.FAILED,
    (S.RUNNING, E.CANCEL): S.CANCELLED,
}
ACTIVE = (S.REQUESTED, S.RUNNING)


@dataclass(frozen=True, slots=True)
class Stage:
    """The progress of a retrain. fraction: of the whole, 0 to 1."""

    stage: str
    fraction: float
    message: str


@dataclass(frozen=True, slots=True)
class PinnedData:
    """The data of a retrain: the versions of the lake's tables, and the time up to which labels
    were received."""

    predictions: int
    labels: int
    as_of: datetime

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "as_of": self.as_of.isoformat()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrain:
    """at: when it was requested. trigger: alert, schedule, corrections or operator. champion: the
    version to beat (None: the stable one). change_at: since when the error is higher. recipes: used
    in place of the model's own. override_gate: register regardless of the gate. attempt: counted
    from 1, of a retrain that failed and is tried again. `revision` is the store's.

    waiting_for: why its process cannot continue. error: a traceback. reasons: why it produced no
    version, as sentences. retryable: whether another attempt may end otherwise. result: the job's
    report (trials, gate, rollout). version: the one it produced.
    """

    id: str
    model: str
    at: datetime
    state: RetrainState = RetrainState.REQUESTED
    revision: int = 1
    trigger: str = ""
    reason: str = ""
    decision_id: str | None = None
    champion: int | None = None
    change_at: datetime | None = None
    recipes: tuple[str, ...] = ()
    override_gate: bool = False
    attempt: int = 1
    retryable: bool = True
    started_at: datetime | None = None
    ended_at: datetime | None = None
    progress: Stage | None = None
    data: PinnedData | None = None
    waiting_for: str | None = None
    error: str | None = None
    reasons: tuple[str, ...] = ()
    result: Mapping[str, Any] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    version: int | None = None

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    def after(self, event: RetrainEvent) -> "Retrain":
        """Return the retrain after an event. Raises Conflict if the table has no such
        transition."""
        return replace(self, state=follow(TRANSITIONS, self.state, event, f"retrain {self.id}"))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        value = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in ("at", "change_at", "started_at", "ended_at"):
            value[name] = value[name] and value[name].isoformat()
        return {
            **value,
            "recipes": list(self.recipes),
            "progress": self.progress and asdict(self.progress),
            "data": self.data and self.data.to_dict(),
            "reasons": list(self.reasons),
            "metrics": dict(self.metrics),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Retrain":
        known = {each.name: value[each.name] for each in fields(cls) if each.name in value}
        progress, data = value.get("progress"), value.get("data")
        return cls(
            **{
                **known,
                "state": RetrainState(value["state"]),
                **{
                    name: _time(value.get(name))
                    for name in ("at", "change_at", "started_at", "ended_at")
                },
                "recipes": tuple(value.get("recipes") or ()),
                "progress": Stage(**progress) if progress else None,
                "data": PinnedData(**{**data, "as_of": _time(data["as_of"])}) if data else None,
                "reasons": tuple(value.get("reasons") or ()),
            }
        )


def _time(text: str | None) -> datetime | None:
    """Parse a time, in UTC unless it has a zone."""
    time = datetime.fromisoformat(text) if text else None
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time


def retry_id(failed: str) -> str:
    """The id of the next attempt after the one with this id failed: asking twice asks for the
    same."""
    return str(uuid5(NAMESPACE_OID, f"retry of {failed}"))


def attempts_of(one: Retrain, others: Iterable[Retrain]) -> list[Retrain]:
    """All attempts of the request that `one` is an attempt of, as far as `others` has them, in
    order."""
    known = {each.id: each for each in (*others, one) if each.model == one.model}
    after = {each.id: known.get(retry_id(each.id)) for each in known.values()}
    before = {next_.id: known[id_] for id_, next_ in after.items() if next_ is not None}
    found = one
    while found.id in before:
        found = before[found.id]
    chain = [found]
    while (next_ := after[chain[-1].id]) is not None:
        chain.append(next_)
    return chain
