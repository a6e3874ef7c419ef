"""What `watch` yields, and how it is read from server-sent events: pure, so that both clients share
it."""

import json
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopEvent:
    """Something happened to a record. id: `watch(since=id)` continues behind it. model: "" if it
    concerns the whole stack. record: the id of the incident, retrain or rollout. event: what
    happened, such as `opened`; state: the record's state since."""

    id: str
    at: datetime
    model: str
    record: str
    event: str
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentEvent(LoopEvent):
    """urgency: page, ticket or digest. happened, next: the incident's two sentences."""

    cause: str
    subject: str
    urgency: str
    happened: str
    next: str
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainEvent(LoopEvent):
    """version: the one that it registered. reasons: why it registered none."""

    trigger: str = ""
    version: int | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutEvent(LoopEvent):
    """version: the candidate; former: the champion that it was compared with; weight: the
    candidate's share of the traffic."""

    version: int
    former: int | None = None
    weight: float = 0.0
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionEvent(RolloutEvent):
    """The candidate is the champion."""


KINDS: dict[str, type[LoopEvent]] = {
    "incident": IncidentEvent,
    "retrain": RetrainEvent,
    "rollout": RolloutEvent,
    "promotion": PromotionEvent,
}


@dataclass
class EventStream:
    """Lines of a stream become events. last_id: where it continues after it broke."""

    last_id: str | None = None
    _id: str | None = None
    _data: list[str] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        known = {"last-event-id": self.last_id} if self.last_id is not None else {}
        return {"accept": "text/event-stream", **known}

    def line(self, line: str) -> LoopEvent | None:
        """The event that ends with this line, if one does."""
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self._id = value
        elif name == "data":
            self._data.append(value)
        elif not line:  # what came is whole
            self.last_id = self._id if self._id is not None else self.last_id
            data, self._data = self._data, []
            return parsed(json.loads("\n".join(data))) if data else None
        return None

    def broken(self) -> None:
        """What came of an event that is not complete comes again."""
        self._id, self._data = None, []


def parsed(document: dict[str, Any]) -> LoopEvent:
    """Fields and kinds of a newer server are left out."""
    kind = KINDS.get(document["kind"], LoopEvent)
    known = {f.name for f in fields(kind)}
    given = {name: value for name, value in document.items() if name in known and value is not None}
    if "reasons" in given:
        given["reasons"] = tuple(given["reasons"])
    at = datetime.fromisoformat(document["at"])
    return kind(**{**given, "at": at, "record": document["record_id"]})
