"""An alert groups the findings with one cause, from when it is raised until it is closed."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from driftloop_contracts.judgement import CheckKind, Severity
from driftloop_contracts.transitions import follow

MAX_FINDINGS = 100


class AlertState(StrEnum):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"  # an operator is looking at it
    CLOSED = "closed"  # its cause has gone, or the model has another champion


class AlertEvent(StrEnum):
    ATTACH = "attach"  # further findings have the same cause
    ACKNOWLEDGE = "acknowledge"
    CLOSE = "close"


S, E = AlertState, AlertEvent
TRANSITIONS: Mapping[tuple[AlertState, AlertEvent], AlertState] = {
    (S.OPEN, E.ATTACH): S.OPEN,
    (S.OPEN, E.ACKNOWLEDGE): S.ACKNOWLEDGED,
    (S.OPEN, E.CLOSE): S.CLOSED,
    (S.ACKNOWLEDGED, E.ATTACH): S.ACKNOWLEDGED,
    (S.ACKNOWLEDGED, E.ACKNOWLEDGE): S.ACKNOWLEDGED,
    (S.ACKNOWLEDGED, E.CLOSE): S.CLOSED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert. kind: the cause; findings: their ids, at most MAX_FINDINGS; window: the id of the
    one that raised it; change_at: when the first affected row was predicted; report: a file for
    people. `revision` is the store's."""

    id: str
    model: str
    at: datetime
    kind: CheckKind
    severity: Severity
    message: str
    version: int | None
    findings: tuple[str, ...]
    window: str
    change_at: datetime
    report: str | None = None
    state: AlertState = AlertState.OPEN
    revision: int = 1

    def after(self, event: AlertEvent) -> "Alert":
        """Return the alert after an event. Raises Conflict if the table has no such transition."""
        return replace(self, state=follow(TRANSITIONS, self.state, event, f"alert {self.id}"))

    def holds(self, findings: Iterable[str]) -> bool:
        """Whether attaching these findings would change nothing."""
        return len(self.findings) == MAX_FINDINGS or set(findings) <= set(self.findings)

    def attach(self, findings: Iterable[str]) -> "Alert":
        """Return the alert with the ids of further findings, up to MAX_FINDINGS. Raises as `after`
        does."""
        ids = dict.fromkeys((*self.findings, *findings))
        return replace(self.after(AlertEvent.ATTACH), findings=tuple(ids)[:MAX_FINDINGS])

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "at": self.at.isoformat(),
            "findings": list(self.findings),
            "change_at": self.change_at.isoformat(),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Alert":
        return cls(
            **{
                **value,
                "at": datetime.fromisoformat(value["at"]),
                "kind": CheckKind(value["kind"]),
                "severity": Severity(value["severity"]),
                "findings": tuple(value["findings"]),
                "change_at": datetime.fromisoformat(value["change_at"]),
                "state": AlertState(value["state"]),
            }
        )
